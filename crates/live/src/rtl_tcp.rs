//! The bytes of rtl_tcp: a header of 12 bytes, commands of 5, and samples in `cu8`.
//!
//! As `rtl_tcp.c` of librtlsdr has it, in network byte order. Every byte after the header is a sample.

/// Bytes of the header.
pub const HEADER_LEN: usize = 12;

/// What a server says before its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of tuner, as librtlsdr counts them; 0 where it is not known.
    pub tuner: u32,
    /// How many gains the tuner has.
    pub gains: u32,
}

/// Something else than rtl_tcp listens there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its header is {:02x?} ({}), rtl_tcp begins with \"RTL0\"", .0, .0.escape_ascii())]
pub struct NotRtlTcp(pub [u8; HEADER_LEN]);

impl Header {
    /// Reads the header.
    ///
    /// # Errors
    /// [`NotRtlTcp`], with the bytes.
    pub fn read(bytes: [u8; HEADER_LEN]) -> Result<Self, NotRtlTcp> {
        match bytes {
            [b'R', b'T', b'L', b'0', t0, t1, t2, t3, g0, g1, g2, g3] => Ok(Self {
                tuner: u32::from_be_bytes([t0, t1, t2, t3]),
                gains: u32::from_be_bytes([g0, g1, g2, g3]),
            }),
            _ => Err(NotRtlTcp(bytes)),
        }
    }

    /// The tuner's name.
    pub fn tuner_name(self) -> &'static str {
        match self.tuner {
            1 => "E4000",
            2 => "FC0012",
            3 => "FC0013",
            4 => "FC2580",
            5 => "R820T",
            6 => "R828D",
            _ => "unknown tuner",
        }
    }
}

/// How the receiver is to be set; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tuning {
    /// Centre frequency, Hz.
    pub frequency: Option<u32>,
    /// Samples per second, Hz.
    pub sample_rate: Option<u32>,
    /// The tuner's gain.
    pub gain: Option<Gain>,
    /// How far the receiver's crystal is off, parts per million.
    pub ppm: Option<i32>,
    /// Whether the antenna gets a supply.
    pub bias_tee: Option<bool>,
    /// Input taken past the tuner: 0 none, 1 the I branch, 2 the Q branch.
    pub direct_sampling: Option<u32>,
}

/// The gain of a tuner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gain {
    /// Chosen by the tuner.
    Auto,
    /// Tenths of a decibel; the tuner takes its nearest step.
    Tenths(i32),
}

impl Tuning {
    /// The commands, in the order in which they are to be sent.
    pub fn commands(&self) -> Vec<[u8; 5]> {
        let mut commands = Vec::new();
        let mut push = |command: u8, argument: Option<u32>| {
            if let Some([a, b, c, d]) = argument.map(u32::to_be_bytes) {
                commands.push([command, a, b, c, d]);
            }
        };
        push(0x02, self.sample_rate);
        push(0x05, self.ppm.map(i32::cast_unsigned));
        push(0x09, self.direct_sampling);
        push(0x01, self.frequency);
        match self.gain {
            Some(Gain::Auto) => push(0x03, Some(0)),
            Some(Gain::Tenths(gain)) => {
                push(0x03, Some(1));
                push(0x04, Some(gain.cast_unsigned()));
            }
            None => {}
        }
        push(0x0e, self.bias_tee.map(u32::from));
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_another_is_shown() {
        let header = Header::read(*b"RTL0\0\0\0\x05\0\0\0\x1d").unwrap();
        assert_eq!((header, header.tuner_name()), (Header { tuner: 5, gains: 29 }, "R820T"));
        let message = Header::read(*b"SSH-2.0-Open").unwrap_err().to_string();
        assert!(message.contains("(SSH-2.0-Open), rtl_tcp begins with \"RTL0\""), "{message}");
        assert!(message.contains("[53, 53, 48"), "{message}");
    }

    #[test]
    fn commands_are_those_of_rtl_tcp() {
        assert_eq!(Tuning::default().commands(), Vec::<[u8; 5]>::new());
        let tuning = Tuning {
            frequency: Some(433_920_000),
            sample_rate: Some(1_024_000),
            gain: Some(Gain::Tenths(280)),
            ppm: Some(-2),
            bias_tee: Some(true),
            direct_sampling: Some(2),
        };
        assert_eq!(
            tuning.commands(),
            [
                [0x02, 0x00, 0x0f, 0xa0, 0x00],
                [0x05, 0xff, 0xff, 0xff, 0xfe],
                [0x09, 0, 0, 0, 2],
                [0x01, 0x19, 0xdd, 0x18, 0x00],
                [0x03, 0, 0, 0, 1],
                [0x04, 0, 0, 0x01, 0x18],
                [0x0e, 0, 0, 0, 1],
            ]
        );
        let auto = Tuning { gain: Some(Gain::Auto), ..Tuning::default() };
        assert_eq!(auto.commands(), [[0x03, 0, 0, 0, 0]]);
    }
}
