//! `explain`: a stable code in words, at a site where no other program of Airlift may be.

use airlift_bundles::code::Code;
use clap::Args;

use super::failure::{Ending, Failure};
use super::output;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The code, such as AL0705
    code: String,
}

/// Explains a code.
pub(super) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let Some(code) = Code::find(&args.code) else {
        let failure = Failure::new(Ending::No, format!("{:?} is no code of this version", args.code));
        return Err(failure.next("A code is AL and four digits, as in `status` and in errors."));
    };
    output::show(&code.explained());
    Ok(())
}
