//! Looking into a bundle: its app, objects and images, and what its release says.

use std::path::PathBuf;

use airlift_bundles::document::release::{ParameterDeclaration, Scalar, Statement};
use airlift_bundles::envelope::Envelope;
use airlift_bundles::layout::Bundle;
use airlift_bundles::limits::Limits;
use clap::Args;
use serde_json::{Value, json};

use super::files::BundleFiles;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, OutputArgs, human_bytes, line, print_json, printable};

#[derive(Debug, Args)]
#[command(after_help = "Signatures are not checked here: `airlift bundle verify` does.")]
pub(crate) struct Inspect {
    /// The bundle: a folder, a tar or a stick
    bundle: PathBuf,
    /// The release file, where it is not beside the bundle
    #[arg(long, value_name = "FILE")]
    release_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn inspect(arguments: &Inspect) -> Result<(), Failure> {
    let files = BundleFiles::open(&arguments.bundle)?;
    for bytes in files.releases(&arguments.bundle, arguments.release_file.as_deref())? {
        let envelope = Envelope::parse(&bytes, &Limits::DEFAULT)?;
        let statement: Statement = envelope.read_unverified(&Limits::DEFAULT)?;
        let bundle = files.read_bundle(&statement.bundle())?;
        let objects = object_names(&files, &bundle)?;
        match arguments.output.format {
            Format::Name => line(envelope.digest().to_string())?,
            Format::Json => print_json("Bundle", &as_json(&envelope, &statement, &bundle, &objects))?,
            Format::Table | Format::Wide => {
                let lines = as_lines(&envelope, &statement, &bundle, &objects);
                lines.iter().try_for_each(|text| line(printable(text)))?;
            }
        }
    }
    Ok(())
}

/// The objects as `Kind namespace/name`.
fn object_names(files: &BundleFiles, bundle: &Bundle) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    files.each_object(bundle, |id, _| names.push(id.to_string()))?;
    Ok(names)
}

fn as_json(envelope: &Envelope, statement: &Statement, bundle: &Bundle, objects: &[String]) -> Value {
    let images: Vec<Value> = bundle
        .images()
        .iter()
        .map(|image| {
            let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
            let platforms: Vec<String> =
                image.manifests.iter().map(|manifest| manifest.platform.to_string()).collect();
            json!({ "names": names, "digest": image.target.digest, "platforms": platforms })
        })
        .collect();
    json!({ "release_sha256": envelope.digest(), "bundle": bundle.index(), "release": statement.predicate,
        "signatures": envelope.signatures().len(), "app": bundle.app(), "objects": objects, "images": images })
}

fn as_lines(envelope: &Envelope, statement: &Statement, bundle: &Bundle, objects: &[String]) -> Vec<String> {
    let (release, app) = (&statement.predicate, bundle.app());
    let sizes = &release.sizes;
    let mut lines = vec![
        format!("app        {}@{}", app.app, app.version),
        format!("release    {} ({} signatures, not checked)", envelope.digest(), envelope.signatures().len()),
        format!(
            "number     {} (epoch {}, floor {}) for fleet {}",
            release.seq, release.epoch, release.floor, release.fleet_id
        ),
        format!("bundle     {}", bundle.index()),
        format!(
            "size       {} in {} blobs, {} unpacked",
            human_bytes(sizes.packed),
            sizes.files,
            human_bytes(sizes.unpacked)
        ),
        format!("timing     healthy within {} s, stays so for {} s", app.timeout_s, app.soak_s),
    ];
    lines.extend(
        release.requires.iter().map(|other| format!("requires   {} at least {}", other.app, other.min_seq)),
    );
    for image in bundle.images() {
        let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
        let platforms: Vec<String> =
            image.manifests.iter().map(|manifest| manifest.platform.to_string()).collect();
        lines.push(format!("image      {} ({})", names.join(", "), platforms.join(", ")));
        lines.push(format!("           {}", image.target.digest));
    }
    lines.extend(app.preloaded.iter().map(|image| format!("preloaded  {}", image.name)));
    let declared = release.parameters.iter();
    lines.extend(declared.map(|(name, parameter)| format!("parameter  {name}: {}", bounds(parameter))));
    lines.extend(app.overlays.iter().map(|name| format!("overlay    {name}")));
    lines.extend(release.secret_slots.iter().map(|name| format!("secret     {name}")));
    lines.extend(objects.iter().map(|object| format!("object     {object}")));
    lines
}

/// What a parameter may be, in words.
fn bounds(parameter: &ParameterDeclaration) -> String {
    if !parameter.choices.is_empty() {
        let choices: Vec<String> = parameter.choices.iter().map(Scalar::to_string).collect();
        return format!("one of {}", choices.join(", "));
    }
    match (parameter.min, parameter.max, &parameter.pattern) {
        (Some(min), Some(max), _) => format!("{min} to {max}"),
        (_, _, Some(pattern)) => format!("text that matches {pattern}"),
        _ => "true or false".to_owned(),
    }
}
