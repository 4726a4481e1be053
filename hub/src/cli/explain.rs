//! `airlift explain` and `airlift completion`: help that needs nothing but the binary.

use airlift_bundles::code::Code;
use clap::Args;
use serde_json::json;

use super::failure::{Failure, Kind};
use super::output::{Format, OutputArgs, Table, line, print_json};

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The code, such as AL0202; without one, all codes are listed
    code: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn explain(arguments: &Explain) -> Result<(), Failure> {
    let shape = |code: Code| json!({ "code": code, "title": code.title(), "cause": code.cause(), "next": code.next_step() });
    let Some(id) = &arguments.code else {
        let mut table = Table::new("CodeList", &["CODE", "MEANING"], &["NEXT"]);
        for &code in Code::ALL {
            let cells = vec![code.to_string(), code.title().into(), code.next_step().into()];
            table.row(&shape(code), code, cells);
        }
        return Ok(table.print(arguments.output.format)?);
    };
    let Some(code) = Code::find(id) else {
        let failure = Failure::new(Kind::NotFound, format!("{id:?} is no code of this version"));
        return Err(failure.next("`airlift explain` lists all codes."));
    };
    match arguments.output.format {
        Format::Json => print_json("Code", &shape(code))?,
        Format::Name => line(code.id())?,
        Format::Table | Format::Wide => {
            line(code.explained().trim_end())?;
        }
    }
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  airlift completion bash > /etc/bash_completion.d/airlift")]
pub(crate) struct Completion {
    /// The shell: bash, zsh, fish, elvish or powershell
    shell: clap_complete::Shell,
}

pub(crate) fn complete(arguments: &Completion, mut command: clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "airlift", &mut script);
    Ok(std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?)
}
