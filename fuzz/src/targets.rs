//! One function for each kind of input from outside. None may panic, whatever the bytes; what is allocated is bounded
//! by `Limits`, which libFuzzer's memory limit watches over.

use std::cell::RefCell;
use std::fs;

use airlift_bundles::accept::open_release;
use airlift_bundles::document::ack::Ack;
use airlift_bundles::document::assignment::Assignment;
use airlift_bundles::document::enrolment::{EnrolmentRequest, Grant};
use airlift_bundles::document::receipt::Receipt;
use airlift_bundles::document::release::Statement;
use airlift_bundles::document::root::Root;
use airlift_bundles::document::status::StatusBatch;
use airlift_bundles::envelope::{Document, Envelope, open_self_signed};
use airlift_bundles::ids::Name;
use airlift_bundles::join::{EnrolmentToken, JoinReply};
use airlift_bundles::json;
use airlift_bundles::keys::SecretKey;
use airlift_bundles::layout::app::AppDescriptor;
use airlift_bundles::layout::descriptor::{ImageConfig, Index, Manifest};
use airlift_bundles::layout::objects::ObjectsReader;
use airlift_bundles::limits::Limits;
use airlift_bundles::media::{MediaArchive, MediaEntry, MediaKind, MediaSource as _};
use airlift_bundles::pack::pack;
use airlift_bundles::pieces::{Bitmap, PIECE_BYTES, PieceList, count_pieces};
use airlift_bundles::render::overlay::Overlay;
use airlift_bundles::wire::{self, Conn, Desired, Get, HubState, Part, Topic};

use crate::receive::{Scratch, receive};
use crate::{endpoint, fleet};

/// What is done with bytes of others.
pub type Target = fn(&[u8]);

/// The functions by name: also the names of the folders of kept inputs.
pub const ALL: [(&str, Target); 6] = [
    ("documents", documents),
    ("bundle", bundle),
    ("media", media),
    ("packets", packets),
    ("source", source),
    ("wire", wire),
];

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// Lends this thread's scratch file.
fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        work(scratch.get_or_insert_with(|| Scratch::new().expect("there is room for a scratch file")))
    })
}

/// Envelopes and documents: as they arrive, and with the bytes signed by whoever would have to.
pub fn documents(bytes: &[u8]) {
    let limits = &Limits::DEFAULT;
    let strangers = fleet::pinned(&fleet::root_of_strangers(), &[101, 102]);
    if let Ok(envelope) = Envelope::parse(bytes, limits) {
        let again = Envelope::parse(&envelope.to_json(), limits);
        assert_eq!(again.as_ref().map(Envelope::digest), Ok(envelope.digest()), "one payload, one digest");
        assert!(strangers.advance(bytes, limits).is_err(), "nobody but the key holders makes a root");
        assert!(strangers.open_directed::<Assignment>(bytes, limits).is_err());
        assert!(open_release(bytes, &strangers, limits).is_err());
        let _ = open_self_signed::<EnrolmentRequest>(bytes, |request| request.site_key.clone(), limits);
    }
    let root = fleet::pinned(&fleet::root_1(), &[1, 2]);
    fn read<D: Document>(bytes: &[u8], seeds: &[u8]) -> Vec<u8> {
        let mut envelope = Envelope::around(D::PAYLOAD_TYPE, bytes.to_vec());
        let _ = envelope.read_unverified::<D>(&Limits::DEFAULT); // any bytes give a document or a refusal
        seeds.iter().for_each(|seed| envelope.sign(&SecretKey::from_seed(&[*seed; 32])));
        envelope.to_json()
    }
    let _ = root.advance(&read::<Root>(bytes, &[1, 2]), limits); // as above, for all of these
    let _ = open_release(&read::<Statement>(bytes, &[11, 12]), &root, limits);
    let _ = root.open_directed::<Assignment>(&read::<Assignment>(bytes, &[21]), limits);
    read::<Ack>(bytes, &[]);
    read::<Grant>(bytes, &[]);
    read::<Receipt>(bytes, &[]);
    read::<StatusBatch>(bytes, &[]);
    read::<EnrolmentRequest>(bytes, &[]);
    let _ = json::parse::<JoinReply>(bytes, limits);
    let _ = EnrolmentToken::parse(&String::from_utf8_lossy(bytes));
}

/// The parts of a bundle, as if their digests were good, and a whole bundle in a tar.
pub fn bundle(bytes: &[u8]) {
    let limits = &Limits::DEFAULT;
    let _ = serde_json::from_slice::<Index>(bytes); // any bytes give a part or a refusal, for all of these
    let _ = serde_json::from_slice::<Manifest>(bytes);
    let _ = serde_json::from_slice::<ImageConfig>(bytes);
    if let Ok(descriptor) = json::parse::<AppDescriptor>(bytes, limits) {
        let _ = descriptor.check(); // as above
    }
    let _ = Overlay::parse(bytes, limits); // as above
    if let Ok(objects) = ObjectsReader::new(bytes, 1 << 20, limits) {
        let mut raw = 0;
        for object in objects.take_while(Result::is_ok).flatten() {
            raw += object.to_string().len();
        }
        assert!(raw <= 64 << 20, "objects stop at the size that the bundle says");
    }
    with_scratch(|scratch| {
        let taken = receive(scratch, bytes).expect("there is room for a scratch file");
        for (named, found) in &taken.blobs {
            assert_eq!(named, found, "a blob has the digest that was asked for");
        }
    });
}

/// A tar of media: its headers, names, documents and blobs.
pub fn media(bytes: &[u8]) {
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Ok(entry) = name.parse::<MediaEntry>()
    {
        assert_eq!(entry.to_string(), name, "one name, one spelling");
    }
    with_scratch(|scratch| {
        let path = scratch.fill(bytes).expect("there is room for a scratch file");
        let Ok(media) = MediaArchive::open(path, &Limits::DEFAULT) else { return };
        let mut read = 0;
        let listed =
            media.for_each_document(&mut |_, document| read += document.map_or(0, |bytes| bytes.len()));
        assert!(listed.is_ok() && read <= bytes.len(), "documents are made of what is there");
        for name in media.list(MediaKind::Blobs).unwrap_or_default() {
            if let airlift_bundles::media::MediaName::Blob(digest) = name
                && let Ok(Some(mut open)) = media.open_blob(&digest)
            {
                let copied = std::io::copy(&mut open.reader, &mut std::io::sink());
                assert!(copied.is_ok_and(|copied| copied <= bytes.len() as u64));
            }
        }
    });
}

/// Packets of the hub's MQTT endpoint.
pub fn packets(bytes: &[u8]) {
    endpoint::read(bytes);
}

/// A folder to pack: the bytes as `airlift.yaml`, and as a manifest.
pub fn source(bytes: &[u8]) {
    const APP: &str = "apiVersion: airlift.dev/v1alpha1\nkind: App\nname: shop\nversion: 1.0.0\n";
    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\n";
    let Ok(dir) = tempfile::tempdir() else { return };
    let manifests = dir.path().join("manifests");
    fs::create_dir(&manifests).expect("the folder is new");
    for (app, manifest) in [(bytes, MAP.as_bytes()), (APP.as_bytes(), bytes)] {
        fs::write(dir.path().join("airlift.yaml"), app).expect("there is room for a folder");
        fs::write(manifests.join("a.yaml"), manifest).expect("as above");
        let bundle = dir.path().join("bundle");
        if pack(dir.path(), &bundle, &Limits::DEFAULT).is_ok() {
            fs::remove_dir_all(&bundle).expect("what was packed is there");
        }
    }
}

/// Wire payloads, topics, parts, and pieces.
pub fn wire(bytes: &[u8]) {
    let limits = &Limits::DEFAULT;
    if let Ok(content) = wire::unframe(bytes, limits) {
        assert!(content.len() <= limits.document_bytes);
    }
    let _ = wire::decode::<Desired>(bytes, limits); // any bytes give a message or a refusal, for all of these
    let _ = wire::decode::<Get>(bytes, limits);
    let _ = wire::decode::<Conn>(bytes, limits);
    let _ = wire::decode::<HubState>(bytes, limits);
    if let Some(part) = Part::decode(bytes) {
        assert_eq!(part.encode(), bytes, "a part has one spelling");
    }
    let prefix = Name::new("airlift").expect("it is a name");
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Ok(topic) = Topic::parse(name, &prefix)
    {
        assert_eq!(topic.name(&prefix), name, "one topic, one spelling");
    }
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else { return };
    let size = u64::from(u32::from_be_bytes(*size));
    if let Ok(bitmap) = Bitmap::from_bytes(count_pieces(size), rest) {
        assert_eq!(bitmap.missing().flatten().count() as u64 + bitmap.count_here(), bitmap.count());
    }
    if let Ok(list) = PieceList::new(size, rest.to_vec()) {
        assert!(list.verify_piece(0, &rest[..rest.len().min(PIECE_BYTES)]).is_err() || size == 0);
        let _ = list.verify_piece(u64::MAX, rest);
    }
}
