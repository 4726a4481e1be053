//! What must never go back, beside the database: a journal of every number of trust that rose.
//!
//! A database that is damaged comes back from a backup, and a backup is older. The numbers of this file are as new as
//! the last commit that was acknowledged, so that nothing older than what was accepted is ever accepted again. A line
//! is added and synced before each commit that raises one of them, a few times in a rollout; one sync, no rename. A
//! line carries its own digest: what a power cut tore off was not acknowledged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use airlift_bundles::ids::Sha256Digest;

use crate::core::write::{CounterKey, Write};

const FILE: &str = "agent.floors";
/// Above it the journal is written anew when it is opened, with one line for each number.
const BYTES_MAX: u64 = 64 << 10;
/// Hex digits of a line's digest.
const CHECK: usize = 16;

/// Which number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Floor {
    /// The incarnation of the enrolment.
    Enrolment,
    /// The version of the newest root.
    Root,
    /// The assignment in force.
    Assignment,
    /// An app's floor.
    App(String),
}

/// Epoch and number.
pub(super) type Height = (u64, u64);

/// The journal, and the greatest that it says of each number.
#[derive(Debug)]
pub(super) struct Floors {
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
    heights: BTreeMap<Floor, Height>,
}

impl Floors {
    /// Reads the journal of a state directory; where there is none, nothing was accepted yet.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut floors = Self { path, length: text.len() as u64, heights: BTreeMap::new() };
        for (floor, height) in text.lines().filter_map(read_line) {
            floors.rise(floor, height);
        }
        if text.len() as u64 > BYTES_MAX || !(text.is_empty() || text.ends_with('\n')) {
            floors.write_anew()?;
        }
        Ok(floors)
    }

    /// The greatest of each number.
    pub(super) fn heights(&self) -> &BTreeMap<Floor, Height> {
        &self.heights
    }

    /// Adds what these writes raise, and syncs it; answers whether the root or the enrolment is among it.
    pub(super) fn note<'a>(&mut self, writes: impl Iterator<Item = &'a Write>) -> io::Result<bool> {
        let mut risen = BTreeMap::new();
        for (floor, height) in writes.filter_map(of_write) {
            let known = risen.get(&floor).or(self.heights.get(&floor));
            if known.is_none_or(|known| *known < height) {
                risen.insert(floor, height);
            }
        }
        if risen.is_empty() {
            return Ok(false);
        }
        let lines: String = risen.iter().map(|(floor, height)| line(floor, *height)).collect();
        let mut file = File::options().write(true).create(true).truncate(false).open(&self.path)?;
        // What a failed attempt has left goes first.
        file.set_len(self.length)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        if self.length == 0 {
            sync_directory(&self.path)?;
        }
        self.length += lines.len() as u64;
        let is_rare = risen.keys().any(|floor| matches!(floor, Floor::Enrolment | Floor::Root));
        self.heights.extend(risen);
        Ok(is_rare)
    }

    fn rise(&mut self, floor: Floor, height: Height) {
        let known = self.heights.entry(floor).or_insert(height);
        *known = (*known).max(height);
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let text: String = self.heights.iter().map(|(floor, height)| line(floor, *height)).collect();
        let beside = self.path.with_extension("floors-new");
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.length = text.len() as u64;
        sync_directory(&self.path)
    }
}

/// Makes a file's name safe.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn of_write(write: &Write) -> Option<(Floor, Height)> {
    match write {
        Write::PutMeta(row) => Some((Floor::Enrolment, (0, row.incarnation))),
        Write::PutRoot(row) => Some((Floor::Root, (0, row.version))),
        Write::PutCounter(row) => {
            let floor = match &row.key {
                CounterKey::Assignment => Floor::Assignment,
                CounterKey::Floor(app) => Floor::App(app.to_string()),
            };
            Some((floor, (row.epoch, row.seq)))
        }
        _ => None,
    }
}

fn line(floor: &Floor, (epoch, number): Height) -> String {
    let name = match floor {
        Floor::Enrolment => "enrolment",
        Floor::Root => "root",
        Floor::Assignment => "assignment",
        Floor::App(app) => &format!("app/{app}"),
    };
    let text = format!("{name} {epoch} {number}");
    let check = &Sha256Digest::of(text.as_bytes()).to_hex()[..CHECK];
    format!("{text} {check}\n")
}

fn read_line(text: &str) -> Option<(Floor, Height)> {
    let mut words = text.split(' ');
    let (name, epoch, number) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let floor = match name {
        "enrolment" => Floor::Enrolment,
        "root" => Floor::Root,
        "assignment" => Floor::Assignment,
        _ => Floor::App(name.strip_prefix("app/")?.to_owned()),
    };
    let written = line(&floor, (epoch, number));
    (written.trim_end() == text).then_some((floor, (epoch, number)))
}

#[cfg(test)]
mod tests {
    use airlift_bundles::ids::AppName;

    use super::*;
    use crate::core::write::CounterRow;

    fn counter(key: CounterKey, seq: u64) -> Write {
        Write::PutCounter(CounterRow { key, epoch: 1, seq })
    }

    fn shop() -> CounterKey {
        CounterKey::Floor(AppName::new("shop").unwrap())
    }

    #[test]
    fn numbers_only_rise_and_a_torn_line_counts_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut floors = Floors::open(directory.path()).unwrap();
        floors.note([counter(CounterKey::Assignment, 7), counter(shop(), 3)].iter()).unwrap();
        floors.note([counter(CounterKey::Assignment, 5)].iter()).unwrap();
        let path = directory.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        floors.note([counter(CounterKey::Assignment, 9)].iter()).unwrap();
        let torn = fs::read(&path).unwrap();
        for length in whole.len()..torn.len() - 1 {
            fs::write(&path, &torn[..length]).unwrap();
            let read = Floors::open(directory.path()).unwrap();
            assert_eq!(read.heights()[&Floor::Assignment], (1, 7), "{length}");
            assert_eq!(read.heights()[&Floor::App("shop".into())], (1, 3));
        }
        fs::write(&path, &torn).unwrap();
        assert_eq!(Floors::open(directory.path()).unwrap().heights()[&Floor::Assignment], (1, 9));
    }

    #[test]
    fn a_long_journal_is_written_anew_and_says_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut floors = Floors::open(directory.path()).unwrap();
        floors.note([counter(shop(), 3)].iter()).unwrap();
        let path = directory.path().join(FILE);
        let long: String = (1..3_000).map(|seq| line(&Floor::Assignment, (0, seq))).collect();
        fs::write(&path, fs::read_to_string(&path).unwrap() + &long).unwrap();
        let read = Floors::open(directory.path()).unwrap();
        assert_eq!(read.heights()[&Floor::Assignment], (0, 2_999));
        assert!(fs::metadata(directory.path().join(FILE)).unwrap().len() < 200);
        assert_eq!(Floors::open(directory.path()).unwrap().heights(), read.heights());
    }
}
