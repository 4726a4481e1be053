//! The connection to the hub, media, the one wake-up, and the end of the process.

use airlift_bundles::ids::{RandomId, Sha256Digest, SiteId, Timestamp};

use super::event::{ConnId, MediaId};
use super::live::Link;
use super::{Core, Effect, Turn};

/// First pause between attempts to connect; doubled each time.
const CONNECT_MS: u64 = 1_000;
/// The longest pause between attempts.
const CONNECT_MS_MAX: u64 = 300_000;
/// While connected, that the hub is heard is written down this often.
const HEARD_EVERY_S: i64 = 3_600;
/// After a start, sites spread their first attempt over this.
const FIRST_CONNECT_MS: u64 = 1_000;
/// Answers to a call of the roll are spread over this at most, whatever the hub advises.
const ANSWER_MS_MAX: u64 = 300_000;
/// A look that is due and could not be taken is tried again after this.
const HELD_UP_MS: u64 = 250;

/// A growing pause, spread over its second half by a hash of site and attempt, so that sites which failed
/// together do not come back together, and one seed gives one trace.
pub(super) fn backoff_ms(site: &SiteId, first_ms: u64, longest_ms: u64, attempt: u32) -> u64 {
    let pause_ms = (first_ms << attempt.min(20)).min(longest_ms);
    pause_ms / 2 + spread(site, attempt, pause_ms / 2)
}

fn spread(site: &SiteId, attempt: u32, over_ms: u64) -> u64 {
    spread_by(&format!("{site} {attempt}"), over_ms)
}

fn spread_by(what: &str, over_ms: u64) -> u64 {
    let digest = Sha256Digest::of(what.as_bytes());
    let [a, b, c, d, ..] = *digest.as_bytes();
    let drawn = u64::from(u32::from_le_bytes([a, b, c, d]));
    #[cfg(feature = "mutations")]
    let drawn = drawn + crate::mutation::unseeded();
    drawn % (over_ms + 1)
}

impl Core {
    pub(super) fn connect(&mut self, t: &mut Turn) {
        let attempt = self.live.link.attempt;
        let after_ms = match attempt {
            0 => spread(&self.meta.site, 0, FIRST_CONNECT_MS),
            _ => backoff_ms(&self.meta.site, CONNECT_MS, CONNECT_MS_MAX, attempt - 1),
        };
        self.live.link.attempt = attempt.saturating_add(1);
        t.effect(Effect::Connect { after_ms });
    }

    pub(super) fn on_link_up(&mut self, t: &mut Turn, conn: ConnId) {
        self.live.link = Link {
            conn: Some(conn),
            attempt: 0,
            sent_next: self.meta.receipt_acked_next,
            status_sent: 0,
            resend_at: None,
            resends: 0,
            status_at: t.now.mono_ms,
            lost_sent: false,
            roll_call: None,
            answer_at: None,
        };
        self.live.status_dirty = true;
        self.live.documents_due = t.now.mono_ms;
        self.change_meta(t, |meta| meta.conn_seq += 1);
        self.hear_hub(t, self.time(t.now));
        self.birth(t, conn);
    }

    /// The hub spoke at this moment.
    pub(super) fn hear_hub(&mut self, t: &mut Turn, at: Timestamp) {
        self.change_meta(t, |meta| meta.hub_heard = meta.hub_heard.max(Some(at)));
    }

    /// While the connection stands the hub speaks all the time; that is written down now and then only.
    pub(super) fn hear_connection(&mut self, t: &mut Turn) {
        let now = self.time(t.now);
        let due = self.meta.hub_heard.is_none_or(|heard| now.unix_s() - heard.unix_s() >= HEARD_EVERY_S);
        if self.live.link.conn.is_some() && due {
            self.hear_hub(t, now);
        }
    }

    /// Says again who is there, under a new root: what the hub signed under it was refused until now.
    pub(super) fn introduce(&mut self, t: &mut Turn) {
        if let Some(conn) = self.live.link.conn {
            self.change_meta(t, |meta| meta.conn_seq += 1);
            self.birth(t, conn);
        }
    }

    /// Says who is there and which assignment it has, so that the hub sends a newer one.
    pub(super) fn birth(&mut self, t: &mut Turn, conn: ConnId) {
        let assignment = self.assignment_counter();
        let (conn_seq, root_version) = (self.meta.conn_seq, self.root.version);
        t.effect(Effect::Birth { conn, conn_seq, assignment, root_version });
    }

    /// Behind a broker, the hub may have been away while the connection stood, and has lost what was said meanwhile.
    /// What stood at the broker before this connection began was answered by its beginning.
    pub(super) fn on_roll_call(&mut self, t: &mut Turn, id: RandomId, over_ms: u64, retained: bool) {
        if self.live.link.conn.is_none() {
            return;
        }
        let moment = spread_by(&format!("{} {id}", self.meta.site), over_ms.min(ANSWER_MS_MAX));
        let known = self.live.link.roll_call.replace(id);
        let is_news = if known.is_some() { known != self.live.link.roll_call } else { !retained };
        if is_news {
            self.live.link.answer_at = Some(t.now.mono_ms + moment);
        }
    }

    /// Says again who is there, and what was not acknowledged.
    pub(super) fn answer_roll_call(&mut self, t: &mut Turn, conn: ConnId) {
        if self.live.link.answer_at.take_if(|at| *at <= t.now.mono_ms).is_some() {
            // A hub that has just come is no hub that is silent: what it leaves unanswered is soon sent again.
            (self.live.link.resend_at, self.live.link.resends) = (Some(t.now.mono_ms), 0);
            self.birth(t, conn);
        }
    }

    pub(super) fn on_link_down(&mut self, t: &mut Turn, conn: ConnId) {
        if self.live.link.conn.is_some_and(|now| now != conn) {
            return;
        }
        if self.live.link.conn.is_some() {
            self.hear_hub(t, self.time(t.now));
        }
        // A connection that stood counts as a first attempt; attempts that fail grow their pause.
        let attempt = if self.live.link.conn.is_some() { 1 } else { self.live.link.attempt };
        self.live.link = Link { attempt, ..Link::default() };
        if self.start.hub && !self.live.shutting_down {
            self.connect(t);
        }
    }

    pub(super) fn on_media_in(&mut self, t: &mut Turn, media: MediaId) {
        if !self.live.media.contains(&media) {
            self.live.media.push(media.clone());
        }
        self.live.documents_due = t.now.mono_ms;
        // A stick may be the only way out: it takes every receipt that is not acknowledged, and how things are.
        self.renew_status(t);
        let from = self.live.lost_from.take().unwrap_or(self.meta.receipt_acked_next);
        let upto = self.meta.receipt_next - 1;
        let chain_id = self.meta.chain_id.clone();
        t.effect(Effect::WriteMedia { media, chain_id, from, upto });
    }

    /// One wake-up, at the earliest moment at which something must happen by itself.
    pub(super) fn request_wake(&mut self, t: &mut Turn) {
        let now_ms = t.now.mono_ms;
        let mut deadlines: Vec<u64> = Vec::new();
        for app in self.rows.apps.keys() {
            let Some(live) = self.live.apps.get(app) else { continue };
            deadlines.extend(live.retry_at);
            deadlines.extend(live.pauses.values().map(|(_, at)| *at).filter(|at| *at > now_ms));
            let looks = [self.settle_deadline(app), self.watch_deadline(app), self.heal_deadline(app)];
            // What is due and was not done a moment ago is held up by something, which will be an event.
            let held_up = |at: u64| if at <= now_ms { now_ms + HELD_UP_MS } else { at };
            deadlines.extend(looks.into_iter().flatten().map(held_up));
            deadlines.extend(self.retire_deadline(app));
            deadlines.extend(self.give_way_deadline(app));
            if !live.gates.is_empty() && live.todo.is_some() {
                deadlines.push(now_ms + super::apply::GATE_POLL_MS);
            }
            if !live.repaired.is_empty() && live.repaired_at > now_ms {
                deadlines.push(live.repaired_at);
            }
        }
        deadlines.extend(self.outbox_deadline());
        deadlines.extend(self.documents_deadline());
        // Never in the past and never a busy loop; an alarm that is early enough stands.
        let Some(at_mono_ms) = deadlines.into_iter().min().map(|at| at.max(now_ms + 10)) else { return };
        if self.live.wake_at.is_none_or(|set| set > at_mono_ms || set <= now_ms) {
            self.live.wake_at = Some(at_mono_ms);
            t.effect(Effect::Wake { at_mono_ms });
        }
    }

    pub(super) fn on_shutdown(&mut self, t: &mut Turn) {
        self.live.shutting_down = true;
        for app in self.app_names() {
            self.flush_clock(t, &app);
        }
        let long = self.live.ops.iter().filter(|(_, op)| op.deed.is_long()).map(|(op, _)| *op);
        for op in long.collect::<Vec<_>>() {
            t.effect(Effect::Cancel { op });
        }
        if self.live.link.conn.is_some() {
            t.effect(Effect::Disconnect);
        }
        t.effect(Effect::Exit);
    }
}
