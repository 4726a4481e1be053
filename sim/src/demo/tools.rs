//! Runs the product's commands as a person would, in the demo's own directory and configuration.
//!
//! `bin/airlift` and `bin/airlift-agent` are links to this very program, which acts as what it is called.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::failure::DemoError;

/// No command of the demo takes near as long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Set for processes that must not outlive the demo, whatever becomes of it: the demo's process id.
pub const PARENT: &str = "AIRLIFT_SIM_PARENT";

/// The commands, and where they work.
#[derive(Debug, Clone)]
pub struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// Puts the commands into `dir`, which is absolute and exists.
    ///
    /// # Errors
    /// [`DemoError::Io`].
    pub fn install(dir: &Path) -> Result<Self, DemoError> {
        let this = std::env::current_exe().map_err(DemoError::io("the demo's own program"))?;
        for folder in ["bin", "config", "logs"] {
            fs::create_dir_all(dir.join(folder)).map_err(DemoError::io(dir.join(folder)))?;
        }
        for name in ["airlift", "airlift-agent", "airlift-sim"] {
            let link = dir.join("bin").join(name);
            symlink(&this, &link).map_err(DemoError::io(link))?;
        }
        let d = dir.display();
        let env = format!("export PATH='{d}/bin':\"$PATH\" XDG_CONFIG_HOME='{d}/config'\ncd '{d}'\n");
        fs::write(dir.join("env"), env).map_err(DemoError::io(dir.join("env")))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where everything is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every command that was run, and its answer.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("logs/commands.log")
    }

    /// Prepares a command; it is not in the terminal's process group, so that Ctrl-C reaches the demo alone.
    #[must_use]
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.dir.join("bin").join(program));
        command.args(arguments).current_dir(&self.dir).process_group(0).kill_on_drop(true);
        command.env("XDG_CONFIG_HOME", self.dir.join("config")).env("AIRLIFT_LOG", "info");
        command.env_remove("AIRLIFT_CONTEXT").env_remove("AIRLIFT_PASSPHRASE_FILE");
        command
    }

    /// Prepares a process that ends with the demo at the latest.
    #[must_use]
    pub fn service(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(program, arguments);
        command.env(PARENT, std::process::id().to_string());
        command
    }

    /// Runs a command to its end, and gives what it printed.
    ///
    /// # Errors
    /// [`DemoError::Command`] where it fails.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String, DemoError> {
        let line = spell(program, arguments);
        let mut command = self.command(program, arguments);
        let output = command.stdin(Stdio::null()).output();
        let failed = |status: String, said: String| DemoError::Command {
            line: line.clone(),
            status,
            said,
            log: self.log(),
        };
        let output = match timeout(COMMAND_TIMEOUT, output).await {
            Ok(output) => output.map_err(DemoError::io(self.dir.join("bin").join(program)))?,
            Err(_) => return Err(failed(format!("no end within {COMMAND_TIMEOUT:?}"), String::new())),
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        self.note(&format!("$ {line}\n{said}{told}"))?;
        if output.status.success() { Ok(said) } else { Err(failed(output.status.to_string(), told)) }
    }

    /// Runs a command with `-o json`, and reads what it printed; not logged, since it is asked again and again.
    ///
    /// # Errors
    /// [`DemoError::Answer`] where there is no JSON, for whatever reason.
    pub async fn ask(&self, program: &str, arguments: &[&str]) -> Result<Value, DemoError> {
        let arguments = [arguments, &["-o", "json"]].concat();
        let mut command = self.command(program, &arguments);
        let output = timeout(COMMAND_TIMEOUT, command.stdin(Stdio::null()).output()).await;
        let answer = |said: String| DemoError::Answer { line: spell(program, &arguments), said };
        let output = output.map_err(|_| answer("nothing in time".into()))?;
        let output = output.map_err(DemoError::io(self.dir.join("bin").join(program)))?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| answer(format!("{error}: {}", String::from_utf8_lossy(&output.stderr))))
    }

    fn note(&self, text: &str) -> Result<(), DemoError> {
        let log = self.log();
        let mut file =
            OpenOptions::new().create(true).append(true).open(&log).map_err(DemoError::io(&log))?;
        file.write_all(text.as_bytes()).map_err(DemoError::io(log))
    }
}

/// A command as a person would type it.
#[must_use]
pub fn spell(program: &str, arguments: &[&str]) -> String {
    let quoted = |argument: &&str| {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@,".contains(letter);
        if !argument.is_empty() && argument.chars().all(plain) {
            (*argument).to_owned()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let words: Vec<String> =
        std::iter::once(program.to_owned()).chain(arguments.iter().map(quoted)).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::spell;

    #[test]
    fn a_command_is_spelt_so_that_a_shell_takes_it_back() {
        assert_eq!(spell("airlift", &["site", "list"]), "airlift site list");
        assert_eq!(spell("airlift", &["assign", "-l", "*"]), "airlift assign -l '*'");
        assert_eq!(spell("a", &["it's", ""]), r"a 'it'\''s' ''");
    }
}
