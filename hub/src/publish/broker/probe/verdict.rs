//! What probes saw at a broker, judged: a sentence for each thing that it has to do or to prevent.

use airlift_bundles::code::Code;

use crate::api::types::BrokerCheck;

/// Topics that are named where something was heard that should not have been.
const NAMED_MAX: usize = 3;

/// What was seen. Whatever is not set is as it was found where nothing arrived and nobody got in.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) hub_is_connected: bool,
    /// Why a probe with a good certificate was not let in, or not to its own topics.
    pub(super) turned_away: Option<String>,
    pub(super) own_read: bool,
    pub(super) own_write: bool,
    /// The largest message of a site reached the hub.
    pub(super) large: bool,
    /// First level of the topics.
    pub(super) prefix: String,
    /// The probe that listened everywhere, and the topics that it heard.
    pub(super) reader: String,
    pub(super) heard: Vec<String>,
    /// Topics on which something arrived in the name of another site, and of the hub.
    pub(super) forged_as_site: Vec<String>,
    pub(super) forged_as_hub: Vec<String>,
    pub(super) will: Trial,
    pub(super) user_name: Impostor,
    pub(super) client_id: Impostor,
    pub(super) stranger: Trial,
    pub(super) foreigner: Trial,
}

/// How it went to do what must not be possible.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Trial {
    /// The broker let it be done, and nothing came of it.
    #[default]
    Silent,
    Refused(String),
    Succeeded,
}

/// What came of another's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Impostor {
    /// It got in, under its own name as it seems.
    #[default]
    Nothing,
    Refused(String),
    /// It heard what was for the other.
    Hears,
    /// The other lost its connection, or hears nothing any more.
    CutsOff,
}

/// Whose a topic is, for a site.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    ItsOwn,
    ForAll,
    OfTheBroker,
    OfOthers,
}

/// A thing to be true, and what it means where it is not.
struct Rule {
    check: &'static str,
    code: Code,
    means: &'static str,
    fix: &'static str,
}

impl Rule {
    fn holds(&self, found: impl Into<String>) -> BrokerCheck {
        BrokerCheck {
            check: self.check.to_owned(),
            ok: true,
            found: found.into(),
            means: String::new(),
            fix: String::new(),
            code: None,
        }
    }

    fn broken(&self, found: impl Into<String>) -> BrokerCheck {
        BrokerCheck {
            ok: false,
            means: self.means.to_owned(),
            fix: self.fix.to_owned(),
            code: Some(self.code),
            ..self.holds(found)
        }
    }

    /// Broken by whatever `broken` names.
    fn unless(&self, broken: Option<String>, held: &str) -> BrokerCheck {
        broken.map_or_else(|| self.holds(held), |found| self.broken(found))
    }
}

const CONNECTED: Rule = Rule {
    check: "hub is at the broker",
    code: Code::BrokerUnusable,
    means: "No site hears of anything new, and the hub hears of no site.",
    fix: "Start the broker, and read the hub's log: it says why it does not get in.",
};
const ADMITTED: Rule = Rule {
    check: "broker admits a site",
    code: Code::BrokerUnusable,
    means: "No site gets in either, so that nothing else could be tried.",
    fix: "Give the broker the site-ca.pem of `airlift hub broker`, the rights of deploy/broker/rights, and the time of day.",
};
const DELIVERED: Rule = Rule {
    check: "broker delivers both ways",
    code: Code::BrokerUnusable,
    means: "Sites do not get what is for them, or the hub not what they say.",
    fix: "Let a site write s/<itself>/u/# and read s/<itself>/d/#, and `_hub` read s/+/u/# and write s/+/d/#, as deploy/broker/rights does.",
};
const LARGE: Rule = Rule {
    check: "broker takes 128 KiB at once",
    code: Code::BrokerUnusable,
    means: "A large report or assignment never arrives, and what is behind it comes late.",
    fix: "Raise the broker's limit on one message to 131584 bytes (mosquitto: message_size_limit).",
};
const READS: Rule = Rule {
    check: "a site reads nothing of others",
    code: Code::BrokerRights,
    means: "Every site can read what others are told or say: which apps they run, and with what parameters.",
    fix: "Take the wildcard out of the right to read: a site reads s/<itself>/d/#, b/# and h/#.",
};
const READS_BROKER: Rule = Rule {
    check: "a site reads nothing of the broker",
    code: Code::BrokerRights,
    means: "Every site can read what the broker says of itself, with some brokers the names and addresses of its clients.",
    fix: "Take the right to read $SYS/# from sites.",
};
const WRITES: Rule = Rule {
    check: "a site writes for no other",
    code: Code::BrokerRights,
    means: "A site can say in another's name that it is gone, and fill its line. Its reports are signed and not believed.",
    fix: "Take the wildcard out of the right to write: a site writes s/<itself>/u/# alone.",
};
const WRITES_HUB: Rule = Rule {
    check: "a site writes nothing of the hub's",
    code: Code::BrokerRights,
    means: "A site can fill others' lines and confuse them. Assignments are signed, and forged ones are refused.",
    fix: "Let `_hub` alone write s/+/d/#, b/# and h/#.",
};
const WILLS: Rule = Rule {
    check: "a site leaves no will for another",
    code: Code::BrokerRights,
    means: "A site can say in another's name that it is gone, by cutting its own connection.",
    fix: "Have the broker hold wills to the right to write.",
};
const STRANGERS: Rule = Rule {
    check: "nobody gets in without certificate",
    code: Code::BrokerIdentity,
    means: "Whoever reaches the broker gets in, and takes places and perhaps rights.",
    fix: "Require a certificate of every client (mosquitto: require_certificate true, allow_anonymous false).",
};
const FOREIGNERS: Rule = Rule {
    check: "no other authority's certificate",
    code: Code::BrokerIdentity,
    means: "Who has any certificate can call itself by any site's name.",
    fix: "Let the broker trust site-ca.pem alone (mosquitto: cafile, and no capath).",
};
const USERS: Rule = Rule {
    check: "no user name but one's own",
    code: Code::BrokerIdentity,
    means: "A site gets another's rights, or the hub's, by saying its name.",
    fix: "Take the user name from the certificate (mosquitto: use_identity_as_username true).",
};
const CLIENTS: Rule = Rule {
    check: "no client id but one's own",
    code: Code::BrokerIdentity,
    means: "A site can throw out another, or the hub, whenever it likes, or get what is kept for it.",
    fix: "Take the client id from the user name or certificate (mosquitto: use_username_as_clientid true).",
};

/// Judges what was seen, up to where nothing more could be tried.
pub(super) fn judge(seen: &Seen) -> Vec<BrokerCheck> {
    if !seen.hub_is_connected {
        return vec![CONNECTED.broken("it is not connected")];
    }
    let mut checks = vec![CONNECTED.holds("connected")];
    if let Some(reason) = &seen.turned_away {
        checks.push(ADMITTED.broken(reason.clone()));
        return checks;
    }
    let heard = |whose: Whose| {
        let found = seen.heard.iter().filter(|topic| whose_is(topic, &seen.prefix, &seen.reader) == whose);
        named("a probe heard", &found.cloned().collect::<Vec<_>>())
    };
    checks.extend([
        ADMITTED.holds("a probe got in"),
        DELIVERED.unless(undelivered(seen), "what was said arrived"),
        LARGE.unless((!seen.large).then(|| "the hub did not get it".into()), "the hub got it"),
        READS.unless(heard(Whose::OfOthers), "a probe asked for everything, and heard what is its own"),
        READS_BROKER.unless(heard(Whose::OfTheBroker), "a probe asked for $SYS/#, and heard nothing"),
        WRITES.unless(named("it arrived on", &seen.forged_as_site), "nothing arrived"),
        WRITES_HUB.unless(named("it arrived on", &seen.forged_as_hub), "nothing arrived"),
        tried(&WILLS, &seen.will, "nothing arrived", "the will of a probe arrived"),
        tried(&STRANGERS, &seen.stranger, "refused", "a probe got in"),
        tried(&FOREIGNERS, &seen.foreigner, "refused", "a probe got in"),
    ]);
    let all_hear_all = heard(Whose::OfOthers).is_some();
    for (rule, impostor) in [(&USERS, &seen.user_name), (&CLIENTS, &seen.client_id)] {
        // Where everybody hears everything, hearing shows nothing.
        if !(all_hear_all && *impostor == Impostor::Hears) {
            checks.push(named_wrongly(rule, impostor));
        }
    }
    checks
}

fn undelivered(seen: &Seen) -> Option<String> {
    match (seen.own_read, seen.own_write) {
        (true, true) => None,
        (false, true) => Some("what the hub said to a probe did not arrive".into()),
        (true, false) => Some("what a probe said did not reach the hub".into()),
        (false, false) => Some("nothing arrived, in neither direction".into()),
    }
}

fn tried(rule: &Rule, trial: &Trial, silent: &str, succeeded: &str) -> BrokerCheck {
    match trial {
        Trial::Silent => rule.holds(silent),
        Trial::Refused(reason) => rule.holds(format!("refused: {reason}")),
        Trial::Succeeded => rule.broken(succeeded),
    }
}

fn named_wrongly(rule: &Rule, impostor: &Impostor) -> BrokerCheck {
    match impostor {
        Impostor::Nothing => rule.holds("another's name gained nothing"),
        Impostor::Refused(reason) => rule.holds(format!("refused: {reason}")),
        Impostor::Hears => rule.broken("under another's name a probe heard what is for it"),
        Impostor::CutsOff => rule.broken("under another's name a probe cut it off"),
    }
}

fn named(what: &str, topics: &[String]) -> Option<String> {
    let first = topics.get(..topics.len().min(NAMED_MAX)).filter(|first| !first.is_empty())?;
    let more = match topics.len() - first.len() {
        0 => String::new(),
        more => format!(" and {more} more topics"),
    };
    Some(format!("{what} {}{more}", first.join(", ")))
}

fn whose_is(topic: &str, prefix: &str, site: &str) -> Whose {
    if topic.starts_with('$') {
        return Whose::OfTheBroker;
    }
    let rest = topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("/v1/"));
    match rest.map(|rest| rest.split('/').collect::<Vec<_>>()).as_deref() {
        Some(["s", own, ..]) if *own == site => Whose::ItsOwn,
        Some(["b" | "h", ..]) => Whose::ForAll,
        _ => Whose::OfOthers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Seen {
        Seen {
            hub_is_connected: true,
            own_read: true,
            own_write: true,
            large: true,
            prefix: "airlift".into(),
            reader: "_probe-1-reader".into(),
            heard: ["s/_probe-1-reader/d/cmd", "h/state", "b/sha256-00/1"]
                .map(|rest| format!("airlift/v1/{rest}"))
                .into(),
            stranger: Trial::Refused("no certificate".into()),
            foreigner: Trial::Refused("unknown authority".into()),
            ..Seen::default()
        }
    }

    /// The checks that fail, each of which says what it means, what to do, and has a code.
    fn broken(seen: &Seen) -> Vec<&'static str> {
        let rules = [
            &CONNECTED,
            &ADMITTED,
            &DELIVERED,
            &LARGE,
            &READS,
            &READS_BROKER,
            &WRITES,
            &WRITES_HUB,
            &WILLS,
            &STRANGERS,
            &FOREIGNERS,
            &USERS,
            &CLIENTS,
        ];
        let checks = judge(seen);
        for check in &checks {
            let told = !check.means.is_empty() && !check.fix.is_empty() && check.code.is_some();
            assert_eq!(told, !check.ok, "{check:?}");
        }
        let is_broken = |rule: &Rule| checks.iter().any(|check| !check.ok && check.check == rule.check);
        rules.into_iter().filter(|rule| is_broken(rule)).map(|rule| rule.check).collect()
    }

    #[test]
    fn a_broker_that_does_what_it_should_breaks_no_sentence() {
        assert_eq!(broken(&good()), Vec::<&str>::new());
        assert_eq!(judge(&good()).len(), 13);
    }

    #[test]
    fn each_fault_breaks_its_own_sentence_and_no_other() {
        let topic = |rest: &str| vec![format!("airlift/v1/{rest}")];
        let faults = [
            (Seen { own_read: false, ..good() }, &DELIVERED),
            (Seen { own_write: false, ..good() }, &DELIVERED),
            (Seen { large: false, ..good() }, &LARGE),
            (Seen { heard: topic("s/anna/d/desired"), ..good() }, &READS),
            (Seen { heard: topic("s/_probe-1-reader-2/d/cmd"), ..good() }, &READS),
            (Seen { heard: vec!["lamps/kitchen".into()], ..good() }, &READS),
            (Seen { heard: vec!["$SYS/broker/uptime".into()], ..good() }, &READS_BROKER),
            (Seen { forged_as_site: topic("s/b/u/s"), ..good() }, &WRITES),
            (Seen { forged_as_hub: topic("h/x"), ..good() }, &WRITES_HUB),
            (Seen { will: Trial::Succeeded, ..good() }, &WILLS),
            (Seen { stranger: Trial::Succeeded, ..good() }, &STRANGERS),
            (Seen { foreigner: Trial::Succeeded, ..good() }, &FOREIGNERS),
            (Seen { user_name: Impostor::Hears, ..good() }, &USERS),
            (Seen { client_id: Impostor::CutsOff, ..good() }, &CLIENTS),
        ];
        for (seen, rule) in faults {
            assert_eq!(broken(&seen), [rule.check], "{seen:?}");
        }
    }

    #[test]
    fn what_cannot_be_tried_is_not_judged() {
        assert_eq!(judge(&Seen::default()).len(), 1);
        let seen = Seen { turned_away: Some("not authorized".into()), ..good() };
        assert_eq!((judge(&seen).len(), broken(&seen)), (2, vec![ADMITTED.check]));
        let heard = vec!["airlift/v1/s/anna/d/desired".into()];
        let seen = Seen { heard, user_name: Impostor::Hears, client_id: Impostor::CutsOff, ..good() };
        assert_eq!((judge(&seen).len(), broken(&seen)), (12, vec![READS.check, CLIENTS.check]));
    }

    #[test]
    fn a_flood_of_topics_is_told_in_a_line() {
        let heard = (0..1000).map(|site| format!("airlift/v1/s/site-{site}/d/desired")).collect();
        let checks = judge(&Seen { heard, ..good() });
        let found = &checks.iter().find(|check| !check.ok).unwrap().found;
        assert!(found.ends_with(" and 997 more topics") && found.len() < 200, "{found}");
    }
}
