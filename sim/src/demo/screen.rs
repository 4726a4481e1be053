//! What the person sees: a board that is redrawn in place on a terminal, plain lines otherwise.
#![expect(clippy::print_stderr, reason = "this module is the demo's only printer")]

use std::io::{self, IsTerminal as _, Write as _};

use airlift_agent::clock::Clock;

use super::board::{Row, draw, summarise};

/// Columns that a line may have; what is longer is a path or a list that nobody reads while it runs.
const WIDTH: usize = 110;

/// The terminal, or the file that the output goes to.
#[derive(Debug)]
pub struct Screen {
    clock: Clock,
    started_ms: u64,
    is_terminal: bool,
    /// Lines of the board that is on the screen now.
    drawn: usize,
    /// The last summary, so that only changes are printed.
    summary: String,
}

impl Screen {
    /// Begins; times count from here.
    #[must_use]
    pub fn open() -> Self {
        let clock = Clock::system();
        let is_terminal =
            io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self { clock, started_ms: clock.now().mono_ms, is_terminal, drawn: 0, summary: String::new() }
    }

    /// Milliseconds since it began.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        self.clock.now().mono_ms - self.started_ms
    }

    /// A stage begins.
    pub fn begin(&mut self, number: usize, of: usize, title: &str, note: &str) {
        self.settle();
        let head = format!("[{number}/{of}] {title}");
        let head = if self.is_terminal { format!("\x1b[1m{head}\x1b[0m") } else { head };
        self.line(&format!("\n{head}"));
        self.line(&format!("      {note}"));
    }

    /// A command of the product is run.
    pub fn command(&mut self, text: &str) {
        self.settle();
        let text = cut(&format!("      $ {text}"));
        self.line(&if self.is_terminal { format!("\x1b[2m{text}\x1b[0m") } else { text });
    }

    /// Something else is said.
    pub fn say(&mut self, text: &str) {
        self.settle();
        self.line(text);
    }

    /// Shows the fleet as it is now.
    pub fn show(&mut self, rows: &[Row]) {
        if self.is_terminal {
            let lines = draw(rows);
            let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
            let text: String = lines.iter().map(|line| format!("\x1b[2K      {}\n", cut(line))).collect();
            self.drawn = lines.len();
            // Without wrapping, a narrow terminal cuts lines, and the board can be redrawn over itself.
            self.write(&format!("\x1b[?7l{up}{text}\x1b[?7h"));
            return;
        }
        let summary = summarise(rows);
        if summary != self.summary {
            self.line(&format!("      {}  {summary}", self.time()));
            self.summary = summary;
        }
    }

    /// A stage is over.
    pub fn end(&mut self, text: &str) {
        self.settle();
        self.line(&format!("      {}  {text}", self.time()));
    }

    fn time(&self) -> String {
        let elapsed = self.elapsed_ms();
        format!("{:>3}.{} s", elapsed / 1000, elapsed % 1000 / 100)
    }

    /// Leaves the board where it stands: what follows goes below it.
    fn settle(&mut self) {
        self.drawn = 0;
        self.summary.clear();
    }

    fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// A reader that is gone ends nothing: the demo still has processes to stop.
    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Says on standard error why there is nothing more to come.
pub fn complain(text: &str) {
    eprintln!("airlift-sim: {text}");
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let kept: String = text.chars().take(WIDTH - 1).collect();
    kept + "…"
}
