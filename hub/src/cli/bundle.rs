//! `airlift bundle`: from a folder to a signed bundle; needs no hub, and a network only for images from a registry.

use clap::Subcommand;

use super::failure::Failure;
use super::terminal::Terminal;

mod build;
mod compare;
pub(crate) mod files;
mod inspect;
mod sources;
mod trust;

#[derive(Debug, Subcommand)]
#[command(after_help = "From a folder to a signed bundle:
  airlift bundle init shop
  airlift bundle lint shop
  airlift bundle build shop --fleet lab --seq 1 -o shop-1.tar   # also writes shop-1.release.json
  airlift bundle sign shop-1.tar --key r1.key                   # each holder, on their own machine
  airlift bundle sign shop-1.tar --key r2.key
  airlift bundle verify shop-1.tar --root roots/
  airlift publish shop-1.tar")]
pub(crate) enum BundleCommand {
    /// Start a folder with an airlift.yaml and a manifest to edit
    Init(build::Init),
    /// Check a folder as the build does, and write nothing
    Lint(build::Lint),
    /// Build a bundle from a folder, and draft its release
    Build(build::Build),
    /// Show what a bundle holds, and what its release says
    Inspect(inspect::Inspect),
    /// Add one holder's signature to a release
    Sign(trust::Sign),
    /// Collect the signatures of copies of one release
    Merge(trust::Merge),
    /// Check signatures and content as a site does, and say whose signature is missing
    Verify(trust::Verify),
}

pub(crate) fn run(command: &BundleCommand, terminal: Terminal) -> Result<(), Failure> {
    match command {
        BundleCommand::Init(arguments) => build::init(arguments),
        BundleCommand::Lint(arguments) => build::lint(arguments, terminal),
        BundleCommand::Build(arguments) => build::build(arguments, terminal),
        BundleCommand::Inspect(arguments) => inspect::inspect(arguments),
        BundleCommand::Sign(arguments) => trust::sign(arguments, terminal),
        BundleCommand::Merge(arguments) => trust::merge(arguments, terminal),
        BundleCommand::Verify(arguments) => trust::verify(arguments, terminal),
    }
}
