use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::*;
use crate::ids::{RandomId, SiteId};
use crate::limits::Limits;

const PART: u64 = 1000;

fn blob(fill: u8, size: usize) -> (Sha256Digest, Vec<u8>) {
    let bytes = vec![fill; size];
    (Sha256Digest::of(&bytes), bytes)
}

fn names() -> Vec<MediaName> {
    let fingerprint = Fingerprint::new(&["0a1b"; 8].join("-")).unwrap();
    let site = SiteId::new("site-1").unwrap();
    let digest = Sha256Digest::of(b"x");
    vec![
        MediaName::Root(1),
        MediaName::Root(2),
        MediaName::Release(digest),
        MediaName::Assignment(site.clone()),
        MediaName::Request(fingerprint.clone()),
        MediaName::Grant(fingerprint),
        MediaName::Secret(digest),
        MediaName::Receipts { site, chain_id: RandomId::from_bytes([7; 16]), from: 1, upto: 20 },
    ]
}

fn fill(sink: &mut dyn MediaSink, blobs: &[(Sha256Digest, Vec<u8>)]) {
    for name in names().iter().filter(|name| name.kind() < MediaKind::Blobs) {
        sink.put_document(name, name.to_string().as_bytes()).unwrap();
    }
    for (digest, bytes) in blobs {
        assert!(sink.put_blob(digest, bytes.len() as u64, &mut &bytes[..]).unwrap());
    }
    let receipts = names().pop().unwrap();
    sink.put_document(&receipts, receipts.to_string().as_bytes()).unwrap();
}

fn read_blob(source: &dyn MediaSource, digest: &Sha256Digest, size: u64) -> Result<Vec<u8>, MediaError> {
    let mut open = source.open_blob(digest)?.expect("the blob is there");
    let mut bytes = Vec::new();
    copy_verified(&mut open.reader, digest, size, &mut bytes).map(|()| bytes)
}

fn documents(source: &dyn MediaSource) -> Vec<(MediaName, Result<Vec<u8>, MediaError>)> {
    let mut found = Vec::new();
    source.for_each_document(&mut |name, bytes| found.push((name, bytes))).unwrap();
    found
}

fn check(source: &dyn MediaSource, blobs: &[(Sha256Digest, Vec<u8>)]) {
    let documents = documents(source);
    let found: Vec<_> = documents.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(found, names());
    for (name, bytes) in documents {
        assert_eq!(bytes.unwrap(), name.to_string().as_bytes());
    }
    for (digest, bytes) in blobs {
        assert_eq!(&read_blob(source, digest, bytes.len() as u64).unwrap(), bytes);
    }
    assert!(source.open_blob(&Sha256Digest::of(b"absent")).unwrap().is_none());
    assert!(source.read_document(&MediaName::Root(9)).unwrap().is_none());
}

struct Stick {
    dir: tempfile::TempDir,
}

impl Stick {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self) -> MediaDirectoryWriter {
        MediaDirectoryWriter::open(self.dir.path()).unwrap().with_part_bytes(PART)
    }

    fn read(&self) -> MediaDirectory {
        MediaDirectory::open(self.dir.path(), &Limits::DEFAULT).unwrap()
    }

    fn at(&self, name: impl std::fmt::Display) -> PathBuf {
        self.dir.path().join(DIRECTORY).join(name.to_string())
    }
}

#[test]
fn what_is_written_to_a_stick_is_read_back_whole_or_in_parts() {
    let stick = Stick::new();
    let blobs = [blob(1, 10), blob(2, 1000), blob(3, 2500), blob(4, 0)];
    fill(&mut stick.write(), &blobs);
    check(&stick.read(), &blobs);
    let parts = (0..4)
        .filter(|part| stick.at(format!("blobs/sha256/{}.part-{part:04}", blobs[2].0.to_hex())).exists());
    assert_eq!(parts.count(), 3);
    let by_its_directory = MediaDirectory::open(&stick.dir.path().join(DIRECTORY), &Limits::DEFAULT).unwrap();
    check(&by_its_directory, &blobs);
}

#[test]
fn a_stick_is_topped_up_without_writing_good_blobs_again() {
    let stick = Stick::new();
    let (digest, bytes) = blob(1, 2500);
    let put = |source: &mut dyn Read| stick.write().put_blob(&digest, bytes.len() as u64, source);
    assert!(put(&mut &bytes[..]).unwrap());
    assert!(!put(&mut io::empty()).unwrap(), "its source is not even read");
    let part = stick.at(format!("blobs/sha256/{}.part-0001", digest.to_hex()));
    fs::write(&part, [9; 1000]).unwrap();
    assert!(put(&mut &bytes[..]).unwrap(), "a damaged one is written again");
    assert_eq!(read_blob(&stick.read(), &digest, 2500).unwrap(), bytes);
}

#[test]
fn a_source_with_other_bytes_leaves_no_blob() {
    let stick = Stick::new();
    let (digest, bytes) = blob(1, 500);
    let mut writer = stick.write();
    let mut put = |source: &[u8]| writer.put_blob(&digest, 500, &mut &source[..]);
    assert!(matches!(put(&[2; 500]), Err(MediaError::Digest { .. })));
    assert!(matches!(put(&bytes[..499]), Err(MediaError::CutShort { found: 499, expected: 500, .. })));
    assert!(matches!(put(&[1; 501]), Err(MediaError::TooLarge { .. })));
    assert!(stick.read().open_blob(&digest).unwrap().is_none());
}

#[test]
fn half_copied_sticks_give_what_is_complete_and_name_what_is_not() {
    let stick = Stick::new();
    let blobs = [blob(1, 800), blob(2, 900), blob(3, 2500)];
    fill(&mut stick.write(), &blobs);
    fs::write(stick.at(MediaName::Blob(blobs[0].0)), [1; 400]).unwrap();
    fs::remove_file(stick.at(format!("blobs/sha256/{}.part-0002", blobs[2].0.to_hex()))).unwrap();
    let media = stick.read();
    let short = read_blob(&media, &blobs[0].0, 800);
    assert!(matches!(short, Err(MediaError::CutShort { found: 400, expected: 800, .. })), "{short:?}");
    assert_eq!(read_blob(&media, &blobs[1].0, 900).unwrap(), blobs[1].1);
    let short = read_blob(&media, &blobs[2].0, 2500);
    assert!(matches!(short, Err(MediaError::CutShort { found: 2000, expected: 2500, .. })), "{short:?}");
    assert_eq!(short.unwrap_err().code(), Code::MediaCutShort);
}

#[test]
fn a_stick_that_changes_while_it_is_read_gives_no_wrong_bytes() {
    let (digest, bytes) = blob(1, 1 << 20);
    type Change = fn(&std::path::Path);
    let changes: [(Change, Code); 3] = [
        (|at| fs::write(at, vec![2; 1 << 20]).unwrap(), Code::BlobDigest),
        (
            |at| fs::File::options().write(true).open(at).unwrap().set_len(600 << 10).unwrap(),
            Code::MediaCutShort,
        ),
        (|at| fs::File::options().append(true).open(at).unwrap().write_all(b"more").unwrap(), Code::TooLarge),
    ];
    for (change, code) in changes {
        let stick = Stick::new();
        let mut writer = MediaDirectoryWriter::open(stick.dir.path()).unwrap();
        writer.put_blob(&digest, bytes.len() as u64, &mut &bytes[..]).unwrap();
        let media = stick.read();
        let mut open = media.open_blob(&digest).unwrap().unwrap();
        let mut first = vec![0; 512 << 10];
        open.reader.read_exact(&mut first).unwrap();
        change(&stick.at(MediaName::Blob(digest)));
        let mut whole = first.as_slice().chain(open.reader);
        let refused = copy_verified(&mut whole, &digest, bytes.len() as u64, &mut io::sink()).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
}

#[test]
fn links_devices_and_directories_in_the_place_of_files_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    for make in [
        (|at, outside| symlink(outside, at)) as fn(&std::path::Path, &std::path::Path) -> io::Result<()>,
        |at, _| fs::create_dir(at),
        |at, _| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            Ok(rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0)?)
        },
    ] {
        let stick = Stick::new();
        stick.write().put_document(&MediaName::Root(1), b"good").unwrap();
        make(&stick.at("roots/2.json"), &outside.path().join("secret")).unwrap();
        let media = stick.read();
        assert_eq!(media.read_document(&MediaName::Root(1)).unwrap().unwrap(), b"good");
        let refused = media.read_document(&MediaName::Root(2));
        assert_eq!(refused.unwrap_err().code(), Code::MediaEntryRefused);
        let seen = documents(&media);
        assert!(seen.len() == 2 && seen[0].1.is_ok() && seen[1].1.is_err(), "the good one is still seen");
    }
}

#[test]
fn a_directory_that_is_a_link_is_not_entered() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("1.json"), "outside").unwrap();
    let stick = Stick::new();
    fs::create_dir(stick.at("")).unwrap();
    symlink(outside.path(), stick.at("roots")).unwrap();
    let refused = stick.read().read_document(&MediaName::Root(1));
    assert_eq!(refused.unwrap_err().code(), Code::MediaEntryRefused);
    let refused = stick.write().put_document(&MediaName::Root(2), b"x");
    assert_eq!(refused.unwrap_err().code(), Code::MediaEntryRefused);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was written outside");

    let linked = Stick::new();
    symlink(outside.path(), linked.dir.path().join(DIRECTORY)).unwrap();
    assert!(MediaDirectory::open(linked.dir.path(), &Limits::DEFAULT).is_err());
    assert!(MediaDirectoryWriter::open(linked.dir.path()).is_err());
}

#[test]
fn a_leftover_partial_file_is_never_written_through() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let stick = Stick::new();
    fs::create_dir_all(stick.at("roots")).unwrap();
    symlink(&victim, stick.at("roots/.airlift-partial")).unwrap();
    stick.write().put_document(&MediaName::Root(1), b"new").unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(stick.read().read_document(&MediaName::Root(1)).unwrap().unwrap(), b"new");
}

#[test]
fn names_of_other_case_or_form_are_left_out_of_lists() {
    let stick = Stick::new();
    stick.write().put_document(&MediaName::Root(1), b"x").unwrap();
    for name in ["01.json", "2.JSON", "3.json.bak", ".4.json", "..5", "\u{1F600}.json"] {
        fs::write(stick.at("roots").join(name), "x").unwrap();
    }
    fs::create_dir_all(stick.at("receipts/Not A Site")).unwrap();
    let media = stick.read();
    assert_eq!(media.list(MediaKind::Roots).unwrap(), [MediaName::Root(1)]);
    assert_eq!(media.list(MediaKind::Receipts).unwrap(), []);
}

#[test]
fn documents_over_one_mebibyte_are_refused_unread() {
    let stick = Stick::new();
    stick.write().put_document(&MediaName::Root(1), &vec![b'x'; (1 << 20) + 1]).unwrap();
    let refused = stick.read().read_document(&MediaName::Root(1)).unwrap_err();
    assert_eq!(refused.code(), Code::TooLarge);
}

#[test]
fn a_stick_without_media_says_so() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(MediaDirectory::open(empty.path(), &Limits::DEFAULT), Err(MediaError::NotMedia(_))));
    assert!(matches!(
        MediaDirectoryWriter::open(&empty.path().join("no/where")),
        Err(MediaError::NotMedia(_))
    ));
}

fn archive(blobs: &[(Sha256Digest, Vec<u8>)]) -> Vec<u8> {
    let mut writer = MediaArchiveWriter::new(Vec::new());
    fill(&mut writer, blobs);
    writer.finish().unwrap()
}

fn open_archive(bytes: &[u8]) -> Result<(tempfile::NamedTempFile, MediaArchive), MediaError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let media = MediaArchive::open(file.path(), &Limits::DEFAULT)?;
    Ok((file, media))
}

#[test]
fn a_tar_holds_the_same_as_a_stick_and_is_read_by_other_tools() {
    let blobs = [blob(1, 10), blob(2, 1024), blob(3, 0)];
    let bytes = archive(&blobs);
    let (_file, media) = open_archive(&bytes).unwrap();
    assert!(!media.is_cut_short());
    check(&media, &blobs);
    let mut seen = Vec::new();
    media
        .for_each(|entry, size, reader| {
            seen.push(entry.to_string());
            assert_eq!(io::copy(reader, &mut io::sink())?, size);
            Ok::<_, io::Error>(())
        })
        .unwrap();
    let mut tar = tar::Archive::new(&bytes[..]);
    let mut others: Vec<_> =
        tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(others.last(), seen.last(), "receipts come last");
    others.sort();
    seen.sort();
    assert_eq!(others, seen);
}

#[test]
fn a_tar_is_written_in_the_order_of_the_list() {
    let mut writer = MediaArchiveWriter::new(Vec::new());
    let (digest, bytes) = blob(1, 10);
    assert!(writer.put_blob(&digest, 10, &mut &bytes[..]).unwrap());
    assert!(!writer.put_blob(&digest, 10, &mut &bytes[..]).unwrap(), "once is enough");
    let refused = writer.put_document(&MediaName::Root(1), b"late");
    assert!(matches!(refused, Err(MediaError::OutOfOrder { .. })));
}

#[test]
fn a_tar_cut_short_anywhere_opens_and_gives_what_is_complete() {
    let blobs = [blob(1, 700), blob(2, 700)];
    let whole = archive(&blobs);
    let first = whole.windows(700).position(|window| window == blobs[0].1).unwrap();
    let second = whole.windows(700).position(|window| window == blobs[1].1).unwrap();
    for cut in (0..whole.len()).step_by(97) {
        let (_file, media) = open_archive(&whole[..cut]).unwrap();
        assert!(media.is_cut_short() || cut + 512 >= whole.len(), "{cut}");
        for (at, (digest, bytes)) in [first, second].into_iter().zip(&blobs) {
            let Some(mut open) = media.open_blob(digest).unwrap() else {
                assert!(cut < at);
                continue;
            };
            let mut copied = Vec::new();
            match copy_verified(&mut open.reader, digest, 700, &mut copied) {
                Ok(()) => assert!(cut >= at + 700 && copied == *bytes),
                Err(short) => {
                    assert_eq!(short.code(), Code::MediaCutShort, "{cut}: {short:?}");
                    assert!(cut < at + 700);
                }
            }
        }
    }
}

#[test]
fn hostile_tars_are_refused_before_anything_is_read() {
    let entry = |kind: u8, name: &str, size: u64| {
        let mut header = plain_header("roots/1.json", size).unwrap();
        header.as_mut_bytes()[..100].fill(0);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'L', b'K', b'x', b'g', b'S', b'D', b'Z'] {
        let refused = open_archive(&[entry(kind, "roots/1.json", 0), vec![0; 1024]].concat());
        assert_eq!(refused.unwrap_err().code(), Code::MediaEntryRefused, "{:?}", char::from(kind));
    }
    let twice = [entry(b'0', "roots/1.json", 0), entry(b'0', "roots/1.json", 0), vec![0; 1024]].concat();
    assert!(matches!(open_archive(&twice), Err(MediaError::EntryRefused { .. })));
    let mut damaged = entry(b'0', "roots/1.json", 0);
    damaged[0] ^= 1;
    assert!(matches!(open_archive(&damaged), Err(MediaError::EntryRefused { .. })));
    for name in ["../../etc/passwd", "/etc/passwd", "roots/../roots/2.json", "ROOTS/3.json"] {
        let (_file, media) = open_archive(&[entry(b'0', name, 0), vec![0; 1024]].concat()).unwrap();
        assert_eq!(documents(&media).len(), 0, "{name} is on no list");
    }
}

#[test]
fn an_entry_without_end_is_cut_short_and_not_allocated() {
    let mut header = plain_header("roots/1.json", 0).unwrap();
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    let (_file, media) = open_archive(header.as_bytes()).unwrap();
    let refused = media.read_document(&MediaName::Root(1)).unwrap_err();
    assert_eq!(refused.code(), Code::TooLarge);
    let digest = Sha256Digest::of(b"x");
    let mut header = plain_header(&MediaName::Blob(digest).to_string(), 0).unwrap();
    header.set_size(1 << 60);
    header.set_cksum();
    let (_file, media) = open_archive(header.as_bytes()).unwrap();
    assert!(media.is_cut_short());
    let short = read_blob(&media, &digest, 1 << 60);
    assert!(matches!(short, Err(MediaError::CutShort { found: 0, .. })), "{short:?}");
    assert_eq!(short.unwrap_err().code(), Code::MediaCutShort);
}

proptest::proptest! {
    #[test]
    fn no_tar_makes_the_reader_panic(
        at in 0_usize..4096, flip in 1_u8.., more in proptest::collection::vec(proptest::num::u8::ANY, 0..600)
    ) {
        let mut bytes = archive(&[blob(1, 10)]);
        let at = at % bytes.len();
        bytes[at] ^= flip;
        bytes.extend(more);
        if let Ok((_file, media)) = open_archive(&bytes) {
            let _ = documents(&media);
        }
    }
}
