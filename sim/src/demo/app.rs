//! The sample app: the folder that `airlift bundle build` takes, in three versions.
//!
//! The sources are `sim/demo/app`, which is version 1.0.0 as it stands.

use std::fs;
use std::io;
use std::path::Path;

use airlift_bundles::document::release::Platform;

use super::image::write_image;

/// The app's name.
pub const APP: &str = "kiosk";

const DESCRIPTOR: &str = include_str!("../../demo/app/airlift.yaml");
const KIOSK: &str = include_str!("../../demo/app/manifests/kiosk.yaml");
const OPENING: &str = include_str!("../../demo/app/manifests/opening.yaml");
/// The version that the sources are written as.
const SOURCE_VERSION: &str = "1.0.0";

/// One version of the sample app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleApp {
    /// Its version for people.
    pub version: &'static str,
    /// Its release's number.
    pub seq: u64,
    /// Whether its pods become ready.
    pub works: bool,
}

/// What every site gets first.
pub const FIRST: SampleApp = SampleApp { version: SOURCE_VERSION, seq: 1, works: true };
/// The update that goes well.
pub const SECOND: SampleApp = SampleApp { version: "2.0.0", seq: 2, works: true };
/// The update whose program fails.
pub const BAD: SampleApp = SampleApp { version: "3.0.0", seq: 3, works: false };

/// All versions, in order.
pub const VERSIONS: [SampleApp; 3] = [FIRST, SECOND, BAD];

impl SampleApp {
    /// Writes the folder, image included, for nodes of this platform.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&self, folder: &Path, platform: &Platform) -> io::Result<()> {
        let manifests = folder.join("manifests");
        fs::create_dir_all(&manifests)?;
        let in_this_version = |text: &str| text.replace(SOURCE_VERSION, self.version);
        fs::write(folder.join("airlift.yaml"), in_this_version(DESCRIPTOR))?;
        fs::write(manifests.join("kiosk.yaml"), self.kiosk())?;
        if *self == FIRST {
            fs::write(manifests.join("opening.yaml"), OPENING)?;
        }
        let name = format!("demo.airlift.dev/{APP}:{}", self.version);
        write_image(&folder.join("image"), &name, self.version, platform)
    }

    fn kiosk(&self) -> String {
        let text = KIOSK.replace(SOURCE_VERSION, self.version);
        if self.works { text } else { text.replace("# args:", "args:") }
    }
}

#[cfg(test)]
mod tests {
    use airlift_agent::config::host_platform;
    use airlift_bundles::limits::Limits;
    use airlift_bundles::pack::pack;

    use super::*;

    #[test]
    fn every_version_packs_and_the_same_version_packs_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut indexes = Vec::new();
        for (number, app) in VERSIONS.iter().chain([&FIRST]).enumerate() {
            let source = folder.path().join(format!("source-{number}"));
            app.write(&source, &host_platform()).unwrap();
            let bundle = folder.path().join(format!("bundle-{number}"));
            let packed = pack(&source, &bundle, &Limits::DEFAULT).unwrap();
            indexes.push(packed.index);
        }
        assert_eq!(indexes[0], indexes[3]);
        assert_ne!(indexes[0], indexes[1]);
        assert_ne!(indexes[1], indexes[2]);
    }

    #[test]
    fn only_the_bad_version_gives_its_program_an_argument() {
        let arguments = |app: &SampleApp| app.kiosk().lines().any(|line| line.trim() == "args: [fail]");
        assert_eq!(VERSIONS.map(|app| arguments(&app)), [false, false, true]);
    }
}
