//! The person at the terminal: notes, questions, passphrases and progress, all on standard error.
//!
//! Nobody is asked where standard input is no terminal: the command says which flag answers instead.

#![expect(clippy::print_stderr, reason = "this module is where the command line speaks to a person")]

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use zeroize::Zeroizing;

use super::failure::Failure;

/// A passphrase or token longer than this is a wrong file.
const SECRET_BYTES_MAX: u64 = 4096;
/// How often progress is told where no terminal can draw it: seconds.
const PLAIN_PROGRESS_INTERVAL_S: u64 = 10;

/// When errors and answers are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal that has colours, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is known of the terminal, and the answers given in advance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Every question is answered with yes.
    pub(crate) yes: bool,
    colour: Colour,
}

impl Terminal {
    pub(crate) fn new(yes: bool, colour: Colour) -> Self {
        Self { yes, colour }
    }

    /// Whether what goes to standard output is coloured.
    pub(crate) fn paints_answers(self) -> bool {
        self.coloured(io::stdout().is_terminal())
    }

    fn coloured(self, is_terminal: bool) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                is_terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
            }
        }
    }

    /// Tells how a command ended badly.
    pub(crate) fn fail(self, failure: &Failure) {
        let text = failure.to_string();
        match text.strip_prefix("error").filter(|_| self.coloured(io::stderr().is_terminal())) {
            Some(rest) => eprintln!("\u{1b}[1;31merror\u{1b}[0m{rest}"),
            None => eprintln!("{text}"),
        }
    }

    /// Tells something beside the answer.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        eprintln!("{}", text.as_ref());
    }

    /// Goes on only with a yes: from the flag, or from a person.
    pub(crate) fn confirm(self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let answer = self.ask(&format!("{question} [y/N] "), "--yes")?;
        if matches!(answer.as_str(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Failure::usage("stopped: the answer was not yes").next("Nothing was changed."))
        }
    }

    /// Asks for a line of text; `flag` is what answers without a terminal.
    pub(crate) fn ask(self, question: &str, flag: &str) -> Result<String, Failure> {
        if !io::stdin().is_terminal() {
            let failure = Failure::usage(format!("nobody to ask: {}", question.trim_end()));
            return Err(failure.next(format!("Answer with {flag}. Nothing was changed.")));
        }
        eprint!("{question}");
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Shows progress through `total` bytes: drawn on a terminal, else a line now and then.
    pub(crate) fn progress(self, what: &str, total: u64) -> Progress {
        let drawn = io::stderr().is_terminal();
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_finish(ProgressFinish::AndClear);
        let style = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        Progress { bar, drawn, told_s: Arc::new(AtomicU64::new(0)) }
    }
}

/// Progress through bytes; clones count together.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    drawn: bool,
    told_s: Arc<AtomicU64>,
}

impl Progress {
    /// How many bytes are done.
    pub(crate) fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Says how many bytes are done in all.
    pub(crate) fn move_to(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Counts bytes that are done.
    pub(crate) fn done(&self, bytes: u64) {
        self.bar.inc(bytes);
        let elapsed_s = self.bar.elapsed().as_secs();
        let due_s = self.told_s.load(Ordering::Relaxed) + PLAIN_PROGRESS_INTERVAL_S;
        if !self.drawn && elapsed_s >= due_s {
            self.told_s.store(elapsed_s, Ordering::Relaxed);
            let (position, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let (position, total) = (indicatif::BinaryBytes(position), indicatif::BinaryBytes(total));
            eprintln!("{}: {position} of {total}", self.bar.message());
        }
    }
}

/// Where a passphrase comes from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PassphraseArgs {
    /// Read the key's passphrase from this file ("-": standard input) instead of asking
    #[arg(long, value_name = "FILE", env = "AIRLIFT_PASSPHRASE_FILE")]
    pub(crate) passphrase_file: Option<std::path::PathBuf>,
}

impl PassphraseArgs {
    /// Reads or asks for the passphrase of an existing key.
    pub(crate) fn get(&self, path: &Path) -> io::Result<Zeroizing<String>> {
        match &self.passphrase_file {
            Some(file) => read_secret_text(file),
            None => ask_passphrase(&format!("Passphrase of {}: ", path.display())),
        }
    }

    /// Reads a new passphrase, or asks for it twice.
    pub(crate) fn choose(&self, path: &Path) -> Result<Zeroizing<String>, Failure> {
        let refuse = |cause: io::Error| {
            let failure = Failure::new(super::failure::Kind::Usage, cause);
            failure.next("Name a file with --passphrase-file, or choose --plain for a key without one.")
        };
        let chosen = self.get(path).map_err(refuse)?;
        if chosen.is_empty() {
            return Err(Failure::usage("the passphrase is empty").next("Choose one, or --plain."));
        }
        if self.passphrase_file.is_none() && *ask_passphrase("Once more: ")? != *chosen {
            return Err(Failure::usage("the two passphrases differ").next("Run the command again."));
        }
        Ok(chosen)
    }
}

fn ask_passphrase(prompt: &str) -> io::Result<Zeroizing<String>> {
    if !io::stdin().is_terminal() {
        return Err(io::Error::other("a passphrase is needed, and no terminal is here to ask at"));
    }
    rpassword::prompt_password(prompt).map(Zeroizing::new)
}

/// Reads a secret from a file or standard input ("-"), without its last line break.
pub(crate) fn read_secret_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(256));
    if path == Path::new("-") {
        io::stdin().lock().take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    }
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(text)
}
