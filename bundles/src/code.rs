//! Stable codes: each refusal and failure has one, and `airlift explain CODE` tells its cause and next step.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::IdError;

macro_rules! codes {
    ($($number:literal $name:ident: $title:literal, $cause:literal, $next:literal;)*) => {
        /// A stable code; once published, a number keeps its meaning for ever.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its stable number, as text: `AL0101`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => concat!("AL", $number),)* }
            }

            /// What happened, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Why it happens, and what stays safe.
            #[must_use]
            pub fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause,)* }
            }

            /// What to do next.
            #[must_use]
            pub fn next_step(self) -> &'static str {
                match self { $(Self::$name => $next,)* }
            }
        }
    };
}

codes! {
    "0101" EnvelopeMalformed: "not a DSSE envelope",
        "The bytes are not a DSSE envelope in strict JSON. Nothing was changed.",
        "Fetch or copy the document again; if it persists, look at the file that made it.";
    "0102" TooFewSignatures: "too few valid signatures",
        "Fewer distinct keys of the required role signed than its threshold asks for. Nothing was changed.",
        "Run `airlift bundle verify` or `airlift root verify` to see whose signature is missing, and have them sign.";
    "0103" WrongPayloadType: "wrong kind of document",
        "The signed payload type is not the one expected here, so a document was offered in the place of another.",
        "Use the file that belongs here; if nobody mixed them up, treat the carrier as hostile.";
    "0104" JsonNotStrict: "not strict JSON",
        "The signed payload has duplicate keys, fractions, deep nesting or trailing bytes, which two readers could read differently.",
        "Make the document again with airlift; do not edit payloads by hand.";
    "0105" UnknownCritical: "the document needs a newer version",
        "The document lists a field under `crit` that this version does not understand, so it must not be acted on.",
        "Update the agent or command line, then offer the document again.";
    "0106" DocumentInvalid: "the document contradicts itself",
        "A signed field is missing or outside its allowed form. Nothing was changed.",
        "Make the document again; the message names the field.";
    "0201" RootNotPinned: "not the pinned root",
        "The first root's digest is not the one that was given at installation.",
        "Compare the digest with the key holders; install with the right one.";
    "0202" RootChainBroken: "root chain is broken",
        "A root is missing, skips a version, names another predecessor, or is not signed by the root before it. The newest good root stays in force.",
        "Bring all roots from the pinned version on; every media from `airlift media save` has them.";
    "0203" RootLowers: "a root may not lower an epoch or floor",
        "The new root lowers an epoch or a floor that the one before it raised.",
        "Draft the root again from the newest one with `airlift root edit`.";
    "0204" KeyReused: "one key in two roles",
        "A public key stands in two roles or twice in one, so thresholds would count it wrongly.",
        "Give each role its own keys.";
    "0301" ReleaseRoleMissing: "no role may release this app",
        "No release role of the newest root matches this app, or more than one does.",
        "Add the app to a release role in the next root.";
    "0302" ReleaseRevoked: "release is revoked",
        "The newest root revokes this release. A running copy is kept and flagged; it is not installed anew.",
        "Assign another release.";
    "0303" ReleaseBelowFloor: "release is below the floor",
        "A newer release or the root declared that older ones must not return.",
        "Assign a release at or above the floor.";
    "0304" ReleaseEpochOther: "release is of another epoch",
        "The root's epoch for this app is not the release's. A higher one needs a newer root at the site.",
        "Bring the newest roots, or release again under the root's epoch.";
    "0305" ReleaseEqualButDifferent: "two releases with one number",
        "A different release with the same app, epoch and seq was already accepted: one of them is not genuine.",
        "Stop and find out who signed twice; release again with a higher seq.";
    "0306" OutOfScope: "object outside the release role's scope",
        "The app holds an object, namespace or image that its release role may not touch.",
        "Widen the role's scope in the next root, or remove the object.";
    "0307" DescriptorDiffers: "release and bundle disagree",
        "The signed release says something else than the bundle's app descriptor.",
        "Draft the release again with `airlift bundle build`.";
    "0308" StatementInvalid: "not an Airlift release statement",
        "The signed in-toto statement has another predicate or more than one subject.",
        "Sign the draft that `airlift bundle build` wrote.";
    "0401" OtherFleet: "document is for another fleet",
        "The fleet id differs from this site's. Nothing was changed.",
        "Use the media of this fleet.";
    "0402" OtherSite: "document is for another site",
        "The document names another site. Nothing was changed.",
        "Use the document that names this site.";
    "0403" OtherIncarnation: "document is for an earlier enrolment",
        "The site was enrolled anew since, or has not yet been.",
        "Have the hub publish again, or enrol the site again.";
    "0404" AssignmentOlder: "assignment is older",
        "A newer assignment was accepted before; counters never go back. The newer one stays in force.",
        "Nothing, if a late stick brought it; otherwise publish again from the hub.";
    "0405" AssignmentEqualButDifferent: "two assignments with one number",
        "Another assignment with the same epoch and number was accepted: two hubs sign for this fleet.",
        "Run `airlift hub reconcile`; find the second hub or the stolen key.";
    "0406" AssignmentEpochOther: "assignment is of another epoch",
        "The root's director epoch is not the assignment's.",
        "Bring the newest roots; have the hub publish again.";
    "0407" AssignmentParked: "assignment waits for documents",
        "It names releases that are not here yet. Nothing changes until all are here and verified.",
        "Bring the media that holds them, or wait for the hub.";
    "0501" EntryDiffers: "entry and release disagree",
        "The assignment's app, epoch or seq differs from the release's that it names.",
        "Publish again from the hub.";
    "0502" RequiresMissing: "a required app is missing or too old",
        "The release needs another app at a newer version than this site is assigned.",
        "Assign the required app in the same or an earlier assignment.";
    "0503" PlatformMissing: "not built for this platform",
        "The release holds no images for this site's platform.",
        "Build the bundle for the platform too.";
    "0504" ParameterUndeclared: "parameter is not declared",
        "The assignment sets a parameter that the release does not declare.",
        "Assign only declared parameters; `airlift bundle inspect` lists them.";
    "0505" ParameterOutside: "parameter is outside its declaration",
        "The value is not of the declared type, range, pattern or list.",
        "Choose a value inside the declaration.";
    "0506" OverlayUnknown: "overlay is not part of the release",
        "The assignment chooses an overlay that the release does not hold.",
        "Choose one that `airlift bundle inspect` lists.";
    "0507" SecretUnavailable: "secret is not available",
        "The assignment names a sealed secret for a slot that this version cannot fill.",
        "Assign the release without the secret, or update the agent.";
    "0508" ReleaseStopped: "release is stopped",
        "The newest root stops this release: its workloads are scaled to zero and its data is kept.",
        "Assign another release.";
    "0601" BlobDigest: "content does not match its digest",
        "The bytes differ from the signed digest; they were thrown away.",
        "Copy or fetch them again; if it recurs, the carrier is damaged or hostile.";
    "0602" ContentMissing: "content is missing",
        "A blob that the bundle names is not here. What arrived is kept and completed later.",
        "Bring the rest on a stick, or wait for the hub.";
    "0603" MediaEntryRefused: "entry on the media is refused",
        "A link, device, directory in the place of a file, or a name that Airlift does not use.",
        "Write the stick again with `airlift media save`.";
    "0604" MediaCutShort: "media is cut short",
        "The file or stick ends before its content does. What was complete is kept.",
        "Copy the stick again; loading continues where it stopped.";
    "0605" TooLarge: "larger than allowed",
        "Something from outside is larger than its signed size or the built-in limit; it was not read further.",
        "Check what made it; split the app if it really is that large.";
    "0606" BundleMalformed: "bundle is malformed",
        "The bundle's index, manifest or objects are not as the format requires.",
        "Build it again with `airlift bundle build`.";
    "0607" DiskFull: "not enough disk space",
        "The transfer or import needs more free space than the node has above its eviction threshold. Nothing was removed.",
        "Free space on the node; it goes on by itself.";
    "0701" ObjectNotOurs: "object exists and is not ours",
        "An object with this name exists and Airlift did not create it. It was left as it is.",
        "Rename one of them, or list the object under `adopt` in airlift.yaml.";
    "0702" OtherOwner: "object belongs to another app or tool",
        "Another app of this site or another deployment tool already manages this object.",
        "Let one of them manage it.";
    "0703" KindUnknown: "cluster does not know this kind",
        "No API of the cluster serves this group, version and kind. Nothing was changed.",
        "Install the CRD first or with the app, or change the apiVersion.";
    "0704" ApplyRefused: "cluster refused an object",
        "The API server refused the object for good. Where anything had changed, the previous generation was restored.",
        "Read the message, correct the manifest, release again.";
    "0705" NotHealthyInTime: "not healthy in time",
        "The app did not become healthy within its timeout. The previous generation was restored.",
        "Read the evidence in the receipt; release a corrected version.";
    "0706" ClusterUnavailable: "cluster cannot be reached",
        "The API server or container runtime did not answer, or something must be gone first. Nothing is rolled back for that; it is tried again.",
        "Look at the node; it goes on by itself.";
    "0707" RollbackUnhealthy: "previous version is unhealthy too",
        "The rollback was applied but is not healthy either, so the agent stays there instead of going back and forth.",
        "Look at the site; release a version that works there.";
    "0708" ImportFailed: "image import failed",
        "An image could not be put into the container runtime.",
        "Read the reason; check the node's disk and container runtime.";
    "0709" ImageNameTaken: "image name is held by another app",
        "Another app holds this image name with other content.",
        "Use another tag.";
    "0710" DeletionBudget: "too many objects would be deleted",
        "The new version removes more objects than the app's deletion budget allows; none was deleted.",
        "Release with a larger budget, or allow it at the site.";
    "0711" Irreversible: "change cannot be rolled back",
        "The new version changes something that an automatic rollback cannot restore.",
        "Name the kind under `recreate`, or sign with `rollback: never`.";
    "0712" FailedBefore: "this generation failed before",
        "The same release and parameters failed here, so they are not tried again.",
        "Assign another release or parameters, or run `airlift-agent retry APP`.";
    "0713" InterruptedThrice: "settling was interrupted three times",
        "The agent started three times while this generation settled, without progress in between.",
        "Look for a crash or power fault at the site, then run `airlift-agent retry APP`.";
    "0714" Held: "held by a person at the site",
        "A person at the site asked that this app be left as it is.",
        "Run `airlift-agent unhold APP` at the site.";
    "0715" TroubleAfterSuccess: "unwell after it was healthy",
        "The app was healthy in this version and is not any more. It stays as it is, unless its `watch` time still ran: then the previous version was restored.",
        "Read the evidence; it is healthy again by itself when its objects are.";
    "0716" RequiredLeft: "required app went back",
        "An app that this version requires went back to an older version, so this app went back before it.",
        "Correct the required app; this one follows by itself.";
    "0717" HoldsOthers: "others have something in it",
        "A namespace, definition of a kind or claim was to be deleted, but holds what this app did not make. It was left as it is, with everything in it.",
        "Move or delete what is listed; it goes with the next version, or when the agent starts again.";
    "0801" HubUnreachable: "hub cannot be reached",
        "No connection to the hub could be made. Nothing was changed.",
        "Check the address and that `airlift hub serve` runs.";
    "0802" NotAuthorised: "not authorised",
        "The hub did not accept the token or certificate.",
        "Run `airlift login`, or enrol the site again.";
    "0803" NotFound: "not found",
        "The hub holds nothing of that name.",
        "Check the spelling with the matching `list` command.";
    "0804" Conflict: "conflict",
        "The request contradicts what the hub already holds.",
        "Read the message; list what is there.";
    "0805" TokenRefused: "enrolment token is refused",
        "The token is unknown, used, expired, or its proof does not fit the request.",
        "Make a new one with `airlift site token`.";
    "0806" ChainForked: "receipt chain is forked",
        "The site sent two different receipts with one number: it was cloned or restored. It keeps running, quarantined.",
        "Find out which copy is the real one and enrol it again.";
    "0807" HubRestored: "hub was restored from a backup",
        "Sites returned newer assignments than this hub knows, so it publishes nothing.",
        "Run `airlift hub reconcile`.";
    "0808" RequestInvalid: "request is not valid",
        "The hub cannot act on the request as it stands.",
        "Read the message and correct the request.";
    "0809" BrokerUnusable: "broker cannot be used",
        "The hub, or a probe that the broker should take for a site, did not get in, or what it may say or hear did not arrive. Sites behind this broker cannot be reached, or hear only a part. Nothing is lost: both ends send again.",
        "Compare the broker's settings with `deploy/broker/mosquitto.conf` and `rights`, and read its log; then run `airlift doctor` again.";
    "0810" BrokerRights: "broker does not keep sites apart",
        "A probe with the rights of a site read or wrote what is another site's or the hub's. What counts is signed, so that nothing forged is believed; but sites read each other's assignments, or can fill each other's lines.",
        "Compare the broker's rights with `deploy/broker/rights`, have it read them anew, and run `airlift doctor` again.";
    "0811" BrokerIdentity: "broker does not check who connects",
        "A probe got into the broker without a certificate of the site authority, or under a name that its certificate does not bear. Whoever reaches the broker can listen, or cut sites off. What counts is signed, so that nothing forged is believed.",
        "Have the broker require certificates of the site authority, and take user name and client id from them, as `deploy/broker/mosquitto.conf` does; then run `airlift doctor` again.";
    "0901" StoreFailed: "local database failed",
        "A write to the local database failed. Nothing was acknowledged that is not on disk.",
        "Check disk space and health; the agent starts again from what is stored.";
    "0902" StoreLocked: "another process holds the state directory",
        "Only one agent may use a state directory.",
        "Stop the other one, or speak to it through its control socket.";
    "0903" NotEnrolled: "site is not enrolled",
        "The site has no grant from a hub yet.",
        "Run `airlift-agent enrol`.";
    "0904" ConfigInvalid: "configuration is not valid",
        "The configuration file or a flag has an unknown or contradicting setting.",
        "Correct the named setting.";
    "0905" Quarantined: "input is quarantined",
        "This input made the agent stop twice while it was being read, so it is not read again.",
        "Report it; remove the input; the quarantine ends with the next version.";
    "0906" StoreDamaged: "local database is damaged",
        "The database of a site or a hub could not be read any more. A site's backup, where it had one, took its place and no counter went back; at a hub nothing was changed. The damaged file is kept. What runs in clusters goes on.",
        "Check the disk. Site: `airlift-agent doctor`; if the hub shows the receipts as forked, or there was no backup, enrol it again. Hub: `airlift hub restore`, then `airlift hub reconcile`.";
    "1001" BuildInvalid: "bundle source is not valid",
        "The folder cannot be built; the message names file and line.",
        "Correct it and build again; nothing was written.";
    "1002" ImageMissing: "image is not in the bundle",
        "A pod names an image that is neither in the bundle nor declared preloaded.",
        "Add it under `images` in airlift.yaml.";
    "1003" PullPolicyAlways: "pull policy would be Always",
        "The pod would ask a registry, which a disconnected site does not have.",
        "Set `imagePullPolicy: IfNotPresent`.";
    "1004" AmbiguousYaml: "ambiguous YAML value",
        "The value means different things to different YAML readers.",
        "Quote it.";
    "1005" SecretInBundle: "secret data in a bundle",
        "Bundles are signed, not confidential.",
        "Leave the data out, or allow the Secret by name.";
    "1006" ImageUnfetched: "image cannot be fetched",
        "A registry or container runtime did not give an image that airlift.yaml names. Nothing was written.",
        "Read the message; mend name, login or network, and build again.";
    "1007" ImageUnpinned: "image is not pinned",
        "What the name means in its registry or runtime is not fixed by a digest, or is another digest. Nothing was written.",
        "Write the digest behind the name in airlift.yaml: `NAME:TAG@sha256:…`.";
    "1101" KeyFile: "key file cannot be read",
        "The key file is missing, damaged, or its passphrase is wrong.",
        "Check the path and passphrase.";
}

impl Code {
    /// Finds the code of an id such as `AL0101`, whatever its case.
    #[must_use]
    pub fn find(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.id().eq_ignore_ascii_case(id))
    }

    /// All that is known of it, as a page for a person.
    #[must_use]
    pub fn explained(self) -> String {
        format!("{self}  {}\n\n{}\n\nNext: {}\n", self.title(), self.cause(), self.next_step())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl FromStr for Code {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let found = text.chars().take(80).collect();
        Self::find(text).ok_or(IdError { expected: "a known code (AL and four digits)", found })
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_ordered() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()));
        assert!(Code::ALL.iter().all(|code| Code::find(code.id()) == Some(*code)));
    }
}
