//! The newest lines of the agent's own log, in memory: a card with few writes left gets no log file.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that are kept.
const BYTES_MAX: usize = 256 << 10;
/// Bytes of one line that are kept.
const LINE_BYTES_MAX: usize = 4 << 10;

/// The newest lines of a log.
#[derive(Debug, Clone, Default)]
pub struct Ring(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines, oldest first, under a first line that says how many older ones are gone.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.lock();
        let mut text = String::with_capacity(lines.bytes + 64);
        if lines.dropped > 0 {
            text.push_str(&format!("({} older lines are gone)\n", lines.dropped));
        }
        for line in &lines.lines {
            text.push_str(line);
        }
        text
    }

    fn push(&self, line: &[u8]) {
        let mut line = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).into_owned();
        if !line.ends_with('\n') {
            line.push('\n');
        }
        let mut lines = self.lock();
        lines.bytes += line.len();
        lines.lines.push_back(line);
        while lines.bytes > BYTES_MAX {
            let Some(oldest) = lines.lines.pop_front() else { break };
            lines.bytes -= oldest.len();
            lines.dropped += 1;
        }
    }
}

/// Takes one event, which the formatter writes in one piece.
#[derive(Debug)]
pub struct RingWriter(Ring);

impl io::Write for RingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Ring {
    type Writer = RingWriter;

    fn make_writer(&self) -> RingWriter {
        RingWriter(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_newest_lines_stay_and_the_gap_is_told() {
        let ring = Ring::default();
        for number in 0..20_000 {
            ring.make_writer().write_all(format!("line {number} of a log\n").as_bytes()).unwrap();
        }
        let text = ring.text();
        assert!(text.len() <= BYTES_MAX + 64, "{}", text.len());
        assert!(text.ends_with("line 19999 of a log\n"), "the newest stays");
        let kept = text.lines().count() - 1;
        assert!(text.starts_with(&format!("({} older lines are gone)\n", 20_000 - kept)), "{}", &text[..60]);
        ring.make_writer().write_all(&[b'x'; 100_000]).unwrap();
        assert!(
            ring.text().lines().all(|line| line.len() <= LINE_BYTES_MAX),
            "one line cannot push all others out"
        );
    }
}
