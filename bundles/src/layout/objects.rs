//! The objects layer: one JSON object a line, zstd, read and written one object at a time.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde_json::Value;

use crate::code::Code;
use crate::limits::Limits;

/// The zstd level of every build, so that the same objects give the same bytes.
const LEVEL: i32 = 9;

/// The objects layer cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// Reading or decompressing failed.
    #[error("objects layer cannot be read")]
    Io(#[source] io::Error),
    /// One line, or the whole layer, is larger than allowed.
    #[error("objects layer: {what} is over {limit} bytes")]
    TooLarge {
        /// The line or the layer.
        what: &'static str,
        /// Bytes allowed.
        limit: u64,
    },
    /// More lines than allowed.
    #[error("objects layer has more than {limit} objects")]
    TooMany {
        /// Objects allowed.
        limit: usize,
    },
    /// A line is not one JSON object.
    #[error("object {index} of the layer is not JSON")]
    Line {
        /// Its place, counted from 0.
        index: usize,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

impl ObjectsError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } | Self::TooMany { .. } => Code::TooLarge,
            Self::Io(_) | Self::Line { .. } => Code::BundleMalformed,
        }
    }
}

/// Packs objects, in the order given.
///
/// # Errors
/// [`io::Error`] only if memory for the compressor is short.
pub fn write_objects<'v>(objects: impl IntoIterator<Item = &'v Value>) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut raw = Vec::new();
    for object in objects {
        serde_json::to_writer(&mut raw, object)?;
        raw.push(b'\n');
    }
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_contentsize(true)?;
    encoder.set_pledged_src_size(Some(raw.len() as u64))?;
    encoder.write_all(&raw)?;
    Ok((encoder.finish()?, raw))
}

/// Reads objects one by one; memory holds one line and a window of at most 8 MiB.
pub struct ObjectsReader<R: Read> {
    lines: BufReader<io::Take<zstd::Decoder<'static, BufReader<R>>>>,
    line: Vec<u8>,
    index: usize,
    objects_max: usize,
    object_bytes: u64,
    raw_size: u64,
}

impl<R: Read> ObjectsReader<R> {
    /// Opens a layer whose unpacked size the signed bundle gives as `raw_size`.
    ///
    /// # Errors
    /// [`ObjectsError::Io`] when the decompressor cannot be made.
    pub fn new(packed: R, raw_size: u64, limits: &Limits) -> Result<Self, ObjectsError> {
        let decoder = bounded_decoder(packed, limits).map_err(ObjectsError::Io)?;
        Ok(Self {
            lines: BufReader::new(decoder.take(raw_size.saturating_add(1))),
            line: Vec::new(),
            index: 0,
            objects_max: limits.objects,
            object_bytes: limits.object_bytes as u64,
            raw_size,
        })
    }

    fn next_line(&mut self) -> Result<bool, ObjectsError> {
        self.line.clear();
        let limit = self.object_bytes;
        let read = self.lines.by_ref().take(limit + 1).read_until(b'\n', &mut self.line);
        let read = read.map_err(ObjectsError::Io)?;
        if self.lines.get_ref().limit() == 0 && self.lines.buffer().is_empty() {
            return Err(ObjectsError::TooLarge { what: "the layer", limit: self.raw_size });
        }
        if read as u64 > limit {
            return Err(ObjectsError::TooLarge { what: "a line", limit });
        }
        Ok(read > 0)
    }
}

impl<R: Read> Iterator for ObjectsReader<R> {
    type Item = Result<Value, ObjectsError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_line() {
            Ok(true) if self.index >= self.objects_max => {
                Some(Err(ObjectsError::TooMany { limit: self.objects_max }))
            }
            Ok(true) => {
                let index = self.index;
                self.index += 1;
                // serde_json itself stops at 128 levels, the limit for objects.
                Some(
                    serde_json::from_slice(&self.line).map_err(|source| ObjectsError::Line { index, source }),
                )
            }
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// A zstd decoder that refuses frames with a window over the limit.
pub(crate) fn bounded_decoder<R: Read>(
    packed: R,
    limits: &Limits,
) -> io::Result<zstd::Decoder<'static, BufReader<R>>> {
    let mut decoder = zstd::Decoder::new(packed)?;
    decoder.window_log_max(limits.zstd_window_log)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(packed: &[u8], raw_size: u64, limits: &Limits) -> Result<Vec<Value>, ObjectsError> {
        ObjectsReader::new(packed, raw_size, limits)?.collect()
    }

    #[test]
    fn objects_come_back_in_order_with_their_numbers_as_written() {
        let numbers: Value = serde_json::from_str("{\"n\":[1.10,1e3,18446744073709551616]}").unwrap();
        let objects = [json!({"a": "\n"}), numbers];
        let (packed, raw) = write_objects(&objects).unwrap();
        assert_eq!(read(&packed, raw.len() as u64, &Limits::DEFAULT).unwrap(), objects);
        assert!(String::from_utf8(raw).unwrap().contains("[1.10,1e+3,18446744073709551616]"));
    }

    #[test]
    fn the_same_objects_give_the_same_bytes() {
        let objects: Vec<_> = (0..500).map(|at| json!({"name": format!("object-{at}")})).collect();
        assert_eq!(write_objects(&objects).unwrap(), write_objects(&objects).unwrap());
    }

    #[test]
    fn a_bomb_stops_at_the_signed_size() {
        let raw = b"{}\n".repeat(1_000_000);
        let bomb = zstd::encode_all(&raw[..], 19).unwrap();
        assert!(bomb.len() < 2000);
        let refused = read(&bomb, 3000, &Limits::DEFAULT);
        assert!(matches!(refused, Err(ObjectsError::TooLarge { what: "the layer", .. })), "{refused:?}");
        assert_eq!(refused.unwrap_err().code(), Code::TooLarge);
        let refused = read(&bomb, raw.len() as u64, &Limits::DEFAULT).unwrap_err();
        assert!(
            matches!(refused, ObjectsError::TooMany { limit: 20_000 }) && refused.code() == Code::TooLarge
        );
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let raw = [b"{\"a\":\"".as_slice(), &vec![b'x'; 3 << 20], b"\"}\n"].concat();
        let packed = zstd::encode_all(&raw[..], 3).unwrap();
        let refused = read(&packed, raw.len() as u64, &Limits::DEFAULT);
        assert!(matches!(refused, Err(ObjectsError::TooLarge { what: "a line", .. })), "{refused:?}");
        assert_eq!(refused.unwrap_err().code(), Code::TooLarge);
    }

    #[test]
    fn a_window_over_the_limit_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(b"{}\n").unwrap();
        let packed = encoder.finish().unwrap();
        let refused = read(&packed, 3, &Limits::DEFAULT).unwrap_err();
        assert!(matches!(refused, ObjectsError::Io(_)) && refused.code() == Code::BundleMalformed);
    }

    #[test]
    fn a_layer_cut_short_is_refused() {
        let (packed, raw) = write_objects(&[json!({"a": "b"})]).unwrap();
        let refused = read(&packed[..packed.len() - 3], raw.len() as u64, &Limits::DEFAULT);
        assert!(matches!(refused, Err(ObjectsError::Io(_))), "{refused:?}");
    }

    #[test]
    fn depth_is_bounded() {
        let line = |levels: usize| format!("{{\"a\":{}{}}}\n", "[".repeat(levels), "]".repeat(levels));
        for (levels, fits) in [(100, true), (200, false)] {
            let raw = line(levels);
            let packed = zstd::encode_all(raw.as_bytes(), 3).unwrap();
            let code = read(&packed, raw.len() as u64, &Limits::DEFAULT).err().map(|error| error.code());
            assert_eq!(code, (!fits).then_some(Code::BundleMalformed), "{levels}");
        }
    }
}
