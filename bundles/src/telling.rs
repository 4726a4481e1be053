//! How an app is, in words for people: the same at the site and at the hub.
//!
//! Whoever reads this has been woken up. So each app tells, in this order: the state and since when, which version, what
//! is being done or waited for, what happened, what was seen, what is safe, and what to do next.

mod page;
pub mod words;

pub use page::labelled;

use crate::code::Code;
use crate::document::receipt::ReleaseMark;
use crate::document::status::{AppState, AppStatus, SettleClock, Waiting};
use crate::ids::{AppName, Timestamp};
use words::{human_bytes, span};

/// Pieces of evidence that are told; all of them are in the JSON.
const SEEN_MAX: usize = 6;

/// From where and when one looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The site's own time of what is told.
    pub time: Timestamp,
    /// It is not known to be so any more: nothing of it is told as present.
    pub old: bool,
    /// The way from the hub to the site.
    pub way: Way,
}

/// The way from the hub to a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Connected.
    Connected,
    /// There is one, but not now.
    Away,
    /// Sticks alone.
    Media,
}

/// How an app is, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The app.
    pub app: AppName,
    /// Its state, in the word that JSON has; `was …` where it is old.
    pub state: String,
    /// How that is.
    pub mood: Mood,
    /// Since when.
    pub since: String,
    /// Labels and sentences, in order.
    pub lines: Vec<(&'static str, String)>,
}

/// How a state is, for colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should be.
    Well,
    /// On its way there.
    Busy,
    /// Somebody should have a look some day.
    Warning,
    /// Somebody should look now.
    Trouble,
    /// Nobody knows.
    Old,
}

/// Tells how an app is.
#[must_use]
pub fn tell(app: &AppName, status: &AppStatus, moment: &Moment) -> Telling {
    let teller = Teller { app, status, moment };
    let mut lines = vec![("version", teller.version())];
    lines.extend(teller.doing().map(|text| (if moment.old { "then" } else { "now" }, text)));
    lines.extend(teller.happened().map(|text| ("why", text)));
    let seen = &status.evidence;
    lines.extend(seen.iter().take(SEEN_MAX).map(|seen| {
        let parts = [&seen.object, &seen.reason, &seen.message];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        ("seen", parts.join(": "))
    }));
    if seen.len() > SEEN_MAX {
        lines.push(("seen", format!("and {} more; `-o json` shows all", seen.len() - SEEN_MAX)));
    }
    // What is safe and what to do next cannot be told of a state that may be over.
    if !moment.old {
        lines.extend(teller.safe().map(|text| ("safe", text)));
        lines.extend(teller.next().map(|text| ("next", text)));
    }
    let word = status.state.word();
    let state = if moment.old { format!("was {word}") } else { word.to_owned() };
    Telling { app: app.clone(), state, mood: teller.mood(), since: teller.since(), lines }
}

struct Teller<'a> {
    app: &'a AppName,
    status: &'a AppStatus,
    moment: &'a Moment,
}

fn named(mark: &ReleaseMark) -> String {
    format!("{} (seq {})", mark.version, mark.seq)
}

impl Teller<'_> {
    fn mood(&self) -> Mood {
        if self.moment.old {
            return Mood::Old;
        }
        let held_up =
            matches!(self.status.waits, Some(Waiting::Cluster | Waiting::Node | Waiting::Pause { .. }));
        match self.status.state {
            AppState::Refused | AppState::Degraded | AppState::Failed => Mood::Trouble,
            AppState::RollingBack | AppState::Held | AppState::Unknown => Mood::Warning,
            _ if held_up || self.status.reason.is_some() => Mood::Warning,
            AppState::Healthy => Mood::Well,
            _ => Mood::Busy,
        }
    }

    fn since(&self) -> String {
        let since = self.status.since;
        let passed_s = u64::try_from(self.moment.time.unix_s() - since.unix_s()).unwrap_or(0);
        if self.moment.old {
            format!("since {since}")
        } else {
            format!("for {}, since {since}", span(passed_s * 1000))
        }
    }

    /// What ran before, or is kept, where that is another release than the one worked on.
    fn other_than_working(&self) -> Option<&ReleaseMark> {
        self.status.running.as_ref().filter(|running| {
            self.status.working.as_ref().is_none_or(|working| working.sha256 != running.sha256)
        })
    }

    fn version(&self) -> String {
        let status = self.status;
        let running = status.running.as_ref().map(named);
        if let Some(working) = status.working.as_ref().map(named) {
            return match (status.state, &status.left, self.other_than_working()) {
                (AppState::RollingBack, Some(left), _) => format!("back to {working}, from {}", named(left)),
                (AppState::Applying | AppState::Settling, _, Some(running)) => {
                    format!("{working} takes the place of {}", named(running))
                }
                (_, _, Some(running)) => format!("{working} comes; {} until then", named(running)),
                (_, _, None) if running.is_none() => {
                    format!("{working}; nothing of this app ran here before")
                }
                (_, _, None) => format!("{working}, the same release as before"),
            };
        }
        let target = status
            .target
            .as_ref()
            .filter(|target| status.running.as_ref().is_none_or(|running| running.sha256 != target.sha256));
        match (running, target.map(named)) {
            (Some(running), None) => running,
            (Some(running), Some(target)) => format!("{running}; {target} is assigned"),
            (None, Some(target)) => format!("none; {target} is assigned"),
            (None, None) => "none".to_owned(),
        }
    }

    fn doing(&self) -> Option<String> {
        let status = self.status;
        let work = match status.state {
            AppState::Waiting => "begins when its turn comes".to_owned(),
            AppState::Fetching => self.fetching(),
            AppState::Prepared => "all content is here; compares it with the cluster".to_owned(),
            AppState::Importing => "puts its images into the container runtime".to_owned(),
            AppState::Applying => self.applying(),
            AppState::Settling => self.settling(status.clock.as_ref()),
            AppState::RollingBack if status.objects.is_some() => self.applying(),
            AppState::RollingBack if status.clock.is_some() => self.settling(status.clock.as_ref()),
            AppState::RollingBack if status.progress.is_some() => self.fetching(),
            AppState::RollingBack => "makes the version before ready, from its own disk".to_owned(),
            AppState::Retiring => match status.objects {
                Some(objects) => format!("leaves: {} of {} objects are deleted", objects.have, objects.want),
                None => "leaves by order of the hub".to_owned(),
            },
            AppState::Held => "a person at the site holds it: nothing new begins".to_owned(),
            AppState::Unknown => "it was healthy when it was last seen".to_owned(),
            AppState::Healthy | AppState::Refused | AppState::Degraded | AppState::Failed => String::new(),
        };
        let waits = self.waits_for();
        let text = [work, waits.unwrap_or_default()].into_iter().filter(|part| !part.is_empty());
        let text = text.collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then_some(text)
    }

    fn fetching(&self) -> String {
        let Some(progress) = self.status.progress.filter(|progress| progress.want > 0) else {
            return "looks for what it needs".to_owned();
        };
        let left = progress.want.saturating_sub(progress.have);
        let mut text = format!("{} of {} are here", human_bytes(progress.have), human_bytes(progress.want));
        if let Some(rate) = self.status.bytes_per_s.filter(|rate| *rate > 0 && !self.moment.old) {
            text.push_str(&format!(
                ", {}/s, about {} left",
                human_bytes(rate),
                span(left.div_ceil(rate) * 1000)
            ));
        }
        text
    }

    fn applying(&self) -> String {
        match self.status.objects {
            Some(objects) => format!("{} of {} objects are in the cluster", objects.have, objects.want),
            None => "sends its objects to the cluster".to_owned(),
        }
    }

    fn settling(&self, clock: Option<&SettleClock>) -> String {
        let Some(clock) = clock else { return "waits until all is well".to_owned() };
        let text = if clock.soaking {
            let (passed, all) = (span(clock.soaked_ms), span(clock.soak_ms));
            format!("all is well, and has to stay so: {passed} of {all}")
        } else {
            let left = span(clock.limit_ms.saturating_sub(clock.used_ms));
            format!(
                "waits until all is well: {} of {} used, {left} left",
                span(clock.used_ms),
                span(clock.limit_ms)
            )
        };
        if clock.runs { text } else { format!("{text}; this clock stands still") }
    }

    fn waits_for(&self) -> Option<String> {
        Some(match self.status.waits.as_ref()? {
            Waiting::App { app, min_seq, seq } => {
                let here = seq.map_or_else(|| "not here yet".to_owned(), |seq| format!("now at {seq}"));
                format!("waits for app {app} to be healthy at seq {min_seq} or later ({here})")
            }
            Waiting::Content => match self.moment.way {
                Way::Connected => "the rest comes from the hub".to_owned(),
                Way::Away => "the hub is away: the rest comes when it is back, or by stick".to_owned(),
                Way::Media => "the rest comes by stick".to_owned(),
            },
            // The reason is told below, in the server's own words.
            Waiting::Cluster | Waiting::Node if self.status.reason.is_some() => return None,
            Waiting::Cluster => "waits for the API server, which does not answer".to_owned(),
            Waiting::Node => "waits for a node that is Ready, takes pods and has disk space".to_owned(),
            Waiting::Import => "waits for an import that keeps the disk busy".to_owned(),
            Waiting::Health | Waiting::Person | Waiting::Unknown => return None,
            Waiting::Pause { left_s } if self.moment.old || *left_s == 0 => "is tried again".to_owned(),
            Waiting::Pause { left_s } => format!("is tried again in {}", span(left_s * 1000)),
            Waiting::RetireDelay { left_s } => format!("in {} of uptime", span(left_s * 1000)),
            Waiting::Turn => "waits until another app has left".to_owned(),
        })
    }

    fn happened(&self) -> Option<String> {
        let detail = self.status.detail.as_str();
        let subject = match (self.status.state, &self.status.target, &self.status.running) {
            (AppState::Healthy, Some(target), Some(running)) if target.sha256 != running.sha256 => {
                format!("{} was tried and left: ", named(target))
            }
            _ => String::new(),
        };
        match self.status.reason {
            // Who holds it is told above; the code says the same.
            Some(Code::Held) if subject.is_empty() => None,
            Some(code) if detail.is_empty() => Some(format!("{subject}{}", code.title())),
            Some(code) => Some(format!("{subject}{}: {detail}", code.title())),
            None if detail.is_empty() || matches!(self.status.waits, Some(Waiting::App { .. })) => None,
            None => Some(detail.to_owned()),
        }
    }

    fn safe(&self) -> Option<String> {
        let status = self.status;
        let untouched = || match self.other_than_working() {
            Some(running) => format!("{} runs on, untouched", named(running)),
            None => "nothing was changed in the cluster".to_owned(),
        };
        Some(match status.state {
            AppState::Unknown => "what runs needs neither the agent nor the hub".to_owned(),
            AppState::Healthy if status.reason.is_none() => return None,
            AppState::Healthy => match &status.running {
                Some(running) => format!("{} runs and is kept right", named(running)),
                None => return None,
            },
            AppState::Waiting | AppState::Fetching | AppState::Prepared | AppState::Importing => untouched(),
            AppState::Refused => untouched(),
            AppState::Applying | AppState::Settling => match &status.returns_to {
                Some(back) => format!("if it fails, the site goes back to {} by itself", named(back)),
                None if status.running.is_none() => {
                    "a first installation: if it fails, its objects stay as they are".to_owned()
                }
                None => "no way back by itself: if it fails, it stays as it is and says so".to_owned(),
            },
            AppState::RollingBack => {
                "the site does this alone, from its own disk, without the hub".to_owned()
            }
            AppState::Degraded if status.reason == Some(Code::TroubleAfterSuccess) => {
                "its objects are kept as they should be; it is healthy again by itself when they are well"
                    .to_owned()
            }
            AppState::Degraded => {
                "it is left as it stands: nothing is deleted, nothing is tried by itself".to_owned()
            }
            AppState::Failed => "its objects are left for you to look at; no other app is touched".to_owned(),
            AppState::Held => "what runs is kept right meanwhile".to_owned(),
            AppState::Retiring => match status.objects {
                Some(_) => {
                    "only its own objects go; volumes, namespaces and CRDs stay unless its release says so"
                }
                None => "until then it runs on",
            }
            .to_owned(),
        })
    }

    fn next(&self) -> Option<String> {
        let (status, app) = (self.status, self.app);
        let here = |order: &str| format!("`airlift-agent {order} {app}` at the site");
        if let Some(code) = status.reason {
            let step = code.next_step().replace("APP", app.as_str());
            return Some(format!("{step} More: `airlift explain {code}`"));
        }
        match (status.state, status.waits.as_ref()) {
            (_, Some(Waiting::App { app, min_seq, .. })) => {
                Some(format!("assign app {app} at seq {min_seq} or later, or see why it is not healthy"))
            }
            (_, Some(Waiting::Content)) if self.moment.way != Way::Connected => Some(
                "`airlift media save` at the hub writes a stick, `airlift-agent media load` at the site reads it"
                    .to_owned(),
            ),
            (_, Some(Waiting::Cluster)) => Some("look at K3s: `systemctl status k3s`".to_owned()),
            (_, Some(Waiting::Node)) => Some("look at the node: `kubectl describe node`".to_owned()),
            (AppState::Held, _) => Some(format!("{} lets it go on", here("unhold"))),
            (AppState::Retiring, Some(Waiting::RetireDelay { .. })) => Some(format!("{} stops it", here("hold"))),
            (AppState::Failed | AppState::Degraded | AppState::Refused, _) => {
                Some(format!("assign a corrected release, or {} tries this one again", here("retry")))
            }
            (AppState::Healthy, _) => None,
            _ => Some("nothing to do".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
