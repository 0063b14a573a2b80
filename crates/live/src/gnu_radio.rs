//! Messages of GNU Radio's ZeroMQ sinks: samples as they are, or behind a header with stream tags.
//!
//! The header (`gr-zeromq/lib/tag_headers.cc`, in the machine's byte order, which is little-endian on all
//! that matter): `u16` 0x5ff0, `u8` 1, `u64` index of the first item, `u64` number of tags, and of each tag
//! `u64` index, then key, value and source as serialised PMTs, in network byte order.

/// What a header begins with.
const MAGIC: [u8; 3] = [0xf0, 0x5f, 0x01];

/// No PMT of a tag is nested deeper.
const MAX_DEPTH: usize = 16;

/// No message has more tags; noise that looks like a header has.
const MAX_TAGS: u64 = 100_000;

/// A message without its header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tagged<'a> {
    /// Index of the first item since the flow graph began.
    pub index: u64,
    /// The items.
    pub samples: &'a [u8],
}

/// Reads a message of a sink that passes tags; `None` where there is no whole header.
pub fn tagged(message: &[u8]) -> Option<Tagged<'_>> {
    let (index, rest) = message.strip_prefix(&MAGIC)?.split_first_chunk()?;
    let (tags, mut rest) = rest.split_first_chunk()?;
    let tags = u64::from_le_bytes(*tags);
    if tags > MAX_TAGS {
        return None;
    }
    for _ in 0..tags {
        rest = rest.get(8..)?;
        for _ in ["key", "value", "source"] {
            rest = after_pmt(rest, MAX_DEPTH)?;
        }
    }
    Some(Tagged { index: u64::from_le_bytes(*index), samples: rest })
}

/// What follows a serialised PMT (`gnuradio-runtime/lib/pmt/pmt_serialize.h`).
fn after_pmt(bytes: &[u8], depth: usize) -> Option<&[u8]> {
    let (kind, rest) = bytes.split_first()?;
    let depth = depth.checked_sub(1)?;
    let length = |rest: &[u8]| Some(u32::from_be_bytes(*rest.first_chunk()?) as usize);
    match kind {
        // True, false, the empty list.
        0x00 | 0x01 | 0x06 => Some(rest),
        // A symbol.
        0x02 => {
            let (length, rest) = rest.split_first_chunk()?;
            rest.get(usize::from(u16::from_be_bytes(*length))..)
        }
        // Integer, double, complex, integer of 64 bits.
        0x03 => rest.get(4..),
        0x04 | 0x0b => rest.get(8..),
        0x05 => rest.get(16..),
        // A pair, of which lists are made.
        0x07 | 0x09 => {
            let mut rest = after_pmt(rest, depth)?;
            // A list is as deep as it is long; its pairs are read one after the other.
            while let Some(next) = rest.strip_prefix(&[*kind]) {
                rest = after_pmt(next, depth)?;
            }
            after_pmt(rest, depth)
        }
        // A vector or tuple of PMTs.
        0x08 | 0x0c => (0..length(rest)?).try_fold(rest.get(4..)?, |rest, _| after_pmt(rest, depth)),
        // A vector of numbers: their kind, how many, padding.
        0x0a => {
            let (kind, rest) = rest.split_first()?;
            let size = match kind {
                0x00 | 0x01 => 1,
                0x02 | 0x03 => 2,
                0x04 | 0x05 | 0x08 => 4,
                0x06 | 0x07 | 0x09 | 0x0a => 8,
                0x0b => 16,
                _ => return None,
            };
            let items = length(rest)?;
            let (padding, rest) = rest.get(4..)?.split_first()?;
            rest.get(items.checked_mul(size)?.checked_add(usize::from(*padding))?..)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn symbol(name: &str) -> Vec<u8> {
        [&[0x02], (name.len() as u16).to_be_bytes().as_slice(), name.as_bytes()].concat()
    }

    fn header(index: u64, tags: &[[Vec<u8>; 3]]) -> Vec<u8> {
        let mut header =
            [MAGIC.as_slice(), &index.to_le_bytes(), &(tags.len() as u64).to_le_bytes()].concat();
        for tag in tags {
            header.extend(index.to_le_bytes());
            header.extend(tag.concat());
        }
        header
    }

    #[test]
    fn samples_are_what_follows_the_tags() {
        let samples = [1, 2, 3, 4];
        let double = [&[0x04], 868e6f64.to_be_bytes().as_slice()].concat();
        // What a UHD source says: rx_time is a tuple of whole seconds and their fraction.
        let time = [
            vec![0x0c, 0, 0, 0, 2, 0x0b],
            5u64.to_be_bytes().to_vec(),
            vec![0x04],
            0.25f64.to_be_bytes().to_vec(),
        ]
        .concat();
        let list = [vec![0x07, 0x00, 0x07, 0x01, 0x07], vec![0x03, 0, 0, 0, 7], vec![0x06]].concat();
        let numbers = vec![0x0a, 0x02, 0, 0, 0, 2, 1, 0, 9, 9, 9, 9];
        for tags in [
            vec![],
            vec![[symbol("rx_freq"), double, symbol("usrp")], [symbol("rx_time"), time, vec![0x01]]],
            vec![[symbol("list"), list, numbers]],
        ] {
            let message = [header(77, &tags), samples.to_vec()].concat();
            assert_eq!(tagged(&message), Some(Tagged { index: 77, samples: &samples }), "{tags:?}");
        }
        assert_eq!(tagged(&samples), None);
        assert_eq!(tagged(&header(0, &[[symbol("a"), vec![0x55], vec![0x01]]])), None);
        assert_eq!(tagged(&[MAGIC.as_slice(), &[0xff; 40]].concat()), None);
        let deep = [[0x0c, 0, 0, 0, 1].repeat(100), vec![0x00]].concat();
        assert_eq!(tagged(&header(0, &[[symbol("a"), deep, vec![0x01]]])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut message = header(1, &[]);
            message[11] = 3;
            message.extend(bytes);
            tagged(&message);
        }
    }
}
