//! Mutants of valid samples: bytes, tar headers, JSON tokens, zstd frames, blobs in each other's place.
//!
//! A mutant is made by one to three changes, each of which knows what it changes; random bytes alone would be refused at
//! the first header and test nothing behind it. One seed gives one sequence.

use crate::fleet::Sample;

/// Random numbers of one seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Begins the sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draws a number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        usize::try_from(self.draw() % limit).expect("it is below a usize")
    }

    fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }
}

/// Numbers at which readers go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    (1 << 53) - 1,
    1 << 53,
    u64::MAX / 2,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes bytes that nobody has to understand: bits, cuts, repetitions, numbers, and parts of another input.
#[must_use]
pub fn mutate_bytes(mut bytes: Vec<u8>, other: &[u8], chance: &mut Chance) -> Vec<u8> {
    for _ in 0..=chance.below(3) {
        if bytes.is_empty() {
            break;
        }
        let (at, length) = (chance.below(bytes.len()), 1 + chance.below(64));
        let end = (at + length).min(bytes.len());
        match chance.below(8) {
            0 | 1 => bytes[at] ^= 1 << chance.below(8),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let repeated = bytes[at..end].to_vec();
                bytes.splice(at..at, repeated);
            }
            5 => {
                let edge = *chance.pick(&EDGES);
                let width = *chance.pick(&[1, 2, 4, 8]);
                let mut number = edge.to_le_bytes()[..width].to_vec();
                if chance.below(2) == 0 {
                    number.reverse();
                }
                bytes[at..].iter_mut().zip(number).for_each(|(byte, new)| *byte = new);
            }
            6 => {
                let from = chance.below(other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ => {
                let fill = u8::try_from(chance.below(256)).expect("it is below 256");
                bytes[at..end].fill(fill);
            }
        }
    }
    bytes
}

/// Changes JSON text by its tokens: keys twice, deeper values, other numbers, missing members, other texts.
#[must_use]
pub fn mutate_json(text: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..=chance.below(2) {
        let tokens = tokens(&text);
        if tokens.is_empty() {
            break;
        }
        let (start, end) = *chance.pick(&tokens);
        let token = text[start..end].to_vec();
        let new: Vec<u8> = match chance.below(8) {
            0 => [b"[".as_slice(), &token, b"]"].concat(),
            1 => {
                let levels = 1 + chance.below(200);
                [b"[".repeat(levels), token, b"]".repeat(levels)].concat()
            }
            2 => EDGES[chance.below(EDGES.len())].to_string().into_bytes(),
            3 => [token.as_slice(), b".5"].concat(),
            4 => b"null".to_vec(),
            5 => {
                let from = *chance.pick(&tokens);
                text[from.0..from.1].to_vec()
            }
            // The token, a comma, and the token again: an element twice, or a key without a value.
            6 => [token.as_slice(), b",", &token].concat(),
            _ => {
                let keys = ["\"crit\":[\"x\"],", "\"site\":\"shore\",", "\"\\u0061\":1,"];
                let key = chance.pick(&keys).as_bytes();
                let brace = text[..start].iter().rposition(|byte| *byte == b'{').map_or(0, |at| at + 1);
                text.splice(brace..brace, key.iter().copied());
                continue;
            }
        };
        text.splice(start..end, new);
    }
    text
}

/// Where strings and plain words of a JSON text stand.
fn tokens(text: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let start = at;
        match text[at] {
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(text.len());
                found.push((start, at));
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                while at < text.len() && (text[at].is_ascii_alphanumeric() || text[at] == b'-') {
                    at += 1;
                }
                found.push((start, at));
            }
            _ => at += 1,
        }
    }
    found
}

/// Changes files of a sample and how they stand in the tar: documents, blobs, headers, order.
#[must_use]
pub fn mutate_media(sample: &Sample, other: &Sample, chance: &mut Chance) -> Vec<u8> {
    let mut files = sample.files.clone();
    let mut headers = Headers::default();
    for _ in 0..=chance.below(2) {
        let at = chance.below(files.len());
        match chance.below(12) {
            0 => drop(files.remove(at)),
            1 => {
                let twice = files[at].clone();
                files.insert(chance.below(files.len()), twice);
            }
            2 => {
                let with = chance.below(files.len());
                let (one, two) = (files[at].1.clone(), files[with].1.clone());
                (files[at].1, files[with].1) = (two, one);
            }
            3 => {
                let with = chance.below(files.len());
                files.swap(at, with);
            }
            4 => files[at].1 = mutate_json(&files[at].1, chance),
            5 | 6 => {
                let from = chance.pick(&other.files).1.clone();
                let bytes = std::mem::take(&mut files[at].1);
                files[at].1 = mutate_bytes(bytes, &from, chance);
            }
            7 => files[at].1 = chance.pick(&other.files).1.clone(),
            8 => files.push(chance.pick(&other.files).clone()),
            9 => files[at].0 = rename(&files[at].0, chance),
            10 => headers.kind = Some((at, *chance.pick(b"\x0001234567LKxgSDVZ"))),
            _ => headers.size = Some((at, *chance.pick(&EDGES))),
        }
        if files.is_empty() {
            break;
        }
    }
    let mut tar = headers.write(&files);
    if chance.below(8) == 0 {
        tar = mutate_bytes(tar, &other.to_tar(), chance);
    }
    tar
}

fn rename(name: &str, chance: &mut Chance) -> String {
    match chance.below(6) {
        0 => name.to_uppercase(),
        1 => format!("../{name}"),
        2 => format!("/{name}"),
        3 => format!("{name}.part-0000"),
        4 => name.replacen('/', "//", 1),
        _ => format!("{name}\u{7f}"),
    }
}

/// What is wrong with headers of a tar that is being written.
#[derive(Default)]
struct Headers {
    kind: Option<(usize, u8)>,
    size: Option<(usize, u64)>,
}

impl Headers {
    fn write(&self, files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (number, (name, bytes)) in files.iter().enumerate() {
            let mut header = [0_u8; 512];
            let name = &name.as_bytes()[..name.len().min(100)];
            header[..name.len()].copy_from_slice(name);
            header[100..108].copy_from_slice(b"0000644\0");
            let size = self.size.filter(|(at, _)| *at == number).map_or(bytes.len() as u64, |(_, size)| size);
            write_size(&mut header, size);
            header[156] = self.kind.filter(|(at, _)| *at == number).map_or(b'0', |(_, kind)| kind);
            header[257..265].copy_from_slice(b"ustar\x0000");
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            tar.extend(header);
            tar.extend(bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.extend([0; 1024]);
        tar
    }
}

/// A size in octal, or in the binary form of larger ones.
fn write_size(header: &mut [u8; 512], size: u64) {
    if size < 1 << 33 {
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        header[124] = 0x80;
        header[128..136].copy_from_slice(&size.to_be_bytes());
    }
}
