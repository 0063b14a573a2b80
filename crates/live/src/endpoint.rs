//! Addresses of live sources.

use std::fmt;

use sferic_recording::name::{datatype_list, datatype_of_name};
use sferic_samples::{Datatype, units::hertz};

use crate::rtl_tcp::{Gain, Tuning};

/// The port on which rtl_tcp listens.
const RTL_TCP_PORT: u16 = 1234;

/// A live source: how it is reached, and what its samples are.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// How it is reached.
    pub transport: Transport,
    /// What its samples are.
    pub format: Format,
}

/// How a source is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// Standard input: `-`.
    Stdin,
    /// An rtl_tcp server, which is set as said.
    RtlTcp {
        /// `host:port`.
        address: String,
        /// What is asked of the receiver beside rate and frequency of the format.
        tuning: Tuning,
    },
    /// A ZeroMQ socket of the kind PUB or PUSH.
    Zmq {
        /// `tcp://host:port`.
        address: String,
    },
}

/// What samples are: one channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Format {
    /// How they are stored.
    pub datatype: Datatype,
    /// Samples per second, Hz.
    pub sample_rate: f64,
    /// Centre frequency, Hz.
    pub frequency: Option<f64>,
}

/// Why an address is none, with what would be one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(pub String);

/// The address without what is asked of the receiver.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transport {
            Transport::Stdin => f.write_str("standard input"),
            Transport::RtlTcp { address, .. } => write!(f, "rtl_tcp://{address}"),
            Transport::Zmq { address } => write!(f, "zmq+{address}"),
        }
    }
}

impl Endpoint {
    /// Whether an argument is an address rather than a path.
    pub fn is_address(argument: &str) -> bool {
        argument == "-" || argument.contains("://")
    }

    /// Reads `-`, `rtl_tcp://host[:port][?key=value&…]` or `zmq+tcp://host:port[?key=value&…]`. What the
    /// address does not say of its samples is taken from `datatype`, `sample_rate` and `frequency`.
    ///
    /// # Errors
    /// Another scheme, a key that it does not have, a value that cannot be, or a datatype or rate that nobody
    /// says.
    ///
    /// ```
    /// use sferic_live::Endpoint;
    /// let address = "rtl_tcp://roof:1234?frequency=433.92M&sample_rate=1.024M&gain=28";
    /// let endpoint = Endpoint::parse(address, None, None, None).unwrap();
    /// assert_eq!(endpoint.format.frequency, Some(433.92e6));
    /// assert_eq!(endpoint.to_string(), "rtl_tcp://roof:1234");
    /// ```
    pub fn parse(
        address: &str,
        datatype: Option<Datatype>,
        sample_rate: Option<f64>,
        frequency: Option<f64>,
    ) -> Result<Self, EndpointError> {
        let error = |reason: String| EndpointError(format!("{address}: {reason}"));
        let mut format = Partial { datatype, sample_rate, frequency };
        let Some((scheme, rest)) = address.split_once("://") else {
            let format = format.whole(None, "--").map_err(error)?;
            return Ok(Self { transport: Transport::Stdin, format });
        };
        let (host, query) = rest.split_once('?').unwrap_or((rest, ""));
        let host = host.trim_end_matches('/');
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let transport = match scheme {
            "rtl_tcp" => {
                let mut tuning = Tuning::default();
                for pair in pairs {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    let known = set_tuning(&mut tuning, key, value).map_err(error)?
                        || key != "datatype" && format.set(key, value).map_err(error)?;
                    if !known {
                        return Err(error(format!(
                            "no key {key:?}, there are frequency, sample_rate, gain, ppm, bias_tee and \
                             direct_sampling"
                        )));
                    }
                }
                if let Some(other) = datatype.filter(|datatype| *datatype != Datatype::Cu8) {
                    return Err(error(format!("rtl_tcp sends cu8, not {other}")));
                }
                format.datatype = Some(Datatype::Cu8);
                tuning.sample_rate =
                    format.sample_rate.map(|rate| whole("sample_rate", rate)).transpose().map_err(error)?;
                tuning.frequency = format
                    .frequency
                    .map(|frequency| whole("frequency", frequency))
                    .transpose()
                    .map_err(error)?;
                Transport::RtlTcp { address: with_port(host, Some(RTL_TCP_PORT)).map_err(error)?, tuning }
            }
            "zmq+tcp" => {
                for pair in pairs {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    if !format.set(key, value).map_err(error)? {
                        return Err(error(format!(
                            "no key {key:?}, there are datatype, sample_rate and frequency"
                        )));
                    }
                }
                let address = with_port(host, None).map_err(error)?;
                Transport::Zmq { address: format!("tcp://{address}") }
            }
            _ => {
                return Err(error(format!(
                    "no scheme {scheme:?}, there are rtl_tcp:// and zmq+tcp://, and - for standard input"
                )));
            }
        };
        // GNU Radio's own type of complex samples.
        let format = format.whole(Some(Datatype::Cf32Le), "").map_err(error)?;
        Ok(Self { transport, format })
    }
}

/// What is known of a format so far.
struct Partial {
    datatype: Option<Datatype>,
    sample_rate: Option<f64>,
    frequency: Option<f64>,
}

impl Partial {
    /// Takes a key of an address; false for one that is another's.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "datatype" => {
                let known = datatype_of_name(value)
                    .ok_or_else(|| format!("datatype is {value:?}, supported: {}", datatype_list()));
                self.datatype = Some(known?);
            }
            "sample_rate" => self.sample_rate = Some(positive(key, value)?),
            "frequency" => {
                let known = hertz::parse(value)
                    .ok_or_else(|| format!("frequency is {value:?}, must be a number of Hz such as 433.92M"));
                self.frequency = Some(known?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The format, with the datatype that is meant where none is said; `dashes` before the names of what is
    /// missing.
    fn whole(self, meant: Option<Datatype>, dashes: &str) -> Result<Format, String> {
        let datatype = self.datatype.or(meant).ok_or_else(|| {
            format!("says nothing of its samples: give {dashes}datatype ({})", datatype_list())
        })?;
        let name = if dashes.is_empty() { "sample_rate or --sample-rate" } else { "--sample-rate" };
        let sample_rate = self
            .sample_rate
            .ok_or_else(|| format!("says nothing of its sample rate: give {name}, such as 2.4M"))?;
        Ok(Format { datatype, sample_rate, frequency: self.frequency })
    }
}

/// Takes a key of rtl_tcp's alone; false for one that is another's.
fn set_tuning(tuning: &mut Tuning, key: &str, value: &str) -> Result<bool, String> {
    let wrong = |must: &str| format!("{key} is {value:?}, must be {must}");
    match key {
        "gain" if value == "auto" => tuning.gain = Some(Gain::Auto),
        "gain" => {
            let decibels: Option<f64> = value.parse().ok();
            let decibels = decibels.filter(|decibels| decibels.abs() <= 100.0);
            let decibels = decibels.ok_or_else(|| wrong("`auto` or decibels of at most 100"))?;
            tuning.gain = Some(Gain::Tenths((decibels * 10.0).round() as i32));
        }
        "ppm" => {
            let ppm = value.parse().ok().filter(|ppm: &i32| ppm.abs() <= 1000);
            tuning.ppm = Some(ppm.ok_or_else(|| wrong("a whole number from -1000 to 1000"))?);
        }
        "bias_tee" => tuning.bias_tee = Some(value.parse().map_err(|_| wrong("true or false"))?),
        "direct_sampling" => {
            let branch = value.parse().ok().filter(|branch| *branch <= 2);
            tuning.direct_sampling = Some(branch.ok_or_else(|| wrong("0, 1 for I or 2 for Q"))?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn positive(key: &str, value: &str) -> Result<f64, String> {
    hertz::parse(value)
        .filter(|hertz| *hertz > 0.0)
        .ok_or_else(|| format!("{key} is {value:?}, must be over 0, in Hz, such as 2.4M"))
}

/// A number that rtl_tcp takes.
fn whole(key: &str, hertz: f64) -> Result<u32, String> {
    let limits = 0.0..=f64::from(u32::MAX);
    if hertz.fract() == 0.0 && limits.contains(&hertz) {
        return Ok(hertz as u32);
    }
    Err(format!("{key} is {hertz} Hz, rtl_tcp takes whole numbers up to {}", u32::MAX))
}

/// `host:port`.
fn with_port(host: &str, default: Option<u16>) -> Result<String, String> {
    // An IPv6 address has colons of its own, and brackets around them.
    if let Some(odd) = host.chars().find(|c| matches!(c, '@' | '/') || c.is_whitespace()) {
        return Err(format!("its host has {odd:?}, must be a name or an address, and a port"));
    }
    let after_host = host.rfind(']').map_or(host, |end| &host[end..]);
    match (after_host.rsplit_once(':'), default) {
        _ if host.is_empty() || host.starts_with(':') => Err("has no host".to_owned()),
        (Some((_, port)), _) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(host.to_owned()),
            _ => Err(format!("its port is {port:?}, must be from 1 to {}", u16::MAX)),
        },
        (None, Some(port)) => Ok(format!("{host}:{port}")),
        (None, None) => Err("has no port".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(address, None, None, None)
    }

    #[test]
    fn rtl_tcp_is_set_as_asked() {
        let endpoint =
            parsed("rtl_tcp://10.0.0.7?frequency=1090M&sample_rate=2.4M&gain=49.6&ppm=-3&bias_tee=true")
                .unwrap();
        let tuning = Tuning {
            frequency: Some(1_090_000_000),
            sample_rate: Some(2_400_000),
            gain: Some(Gain::Tenths(496)),
            ppm: Some(-3),
            bias_tee: Some(true),
            direct_sampling: None,
        };
        let address = "10.0.0.7:1234".to_owned();
        assert_eq!(endpoint.transport, Transport::RtlTcp { address, tuning });
        let format = Format { datatype: Datatype::Cu8, sample_rate: 2.4e6, frequency: Some(1.09e9) };
        assert_eq!(endpoint.format, format);
        let flags = Endpoint::parse("rtl_tcp://[::1]:9?gain=auto", None, Some(1e6), None).unwrap();
        assert_eq!((flags.to_string().as_str(), flags.format.sample_rate), ("rtl_tcp://[::1]:9", 1e6));
    }

    #[test]
    fn others_say_what_their_samples_are() {
        let zmq = parsed("zmq+tcp://127.0.0.1:5555?datatype=ci16&sample_rate=48k").unwrap();
        assert_eq!((zmq.format.datatype, zmq.format.sample_rate), (Datatype::Ci16Le, 48e3));
        assert_eq!(zmq.to_string(), "zmq+tcp://127.0.0.1:5555");
        assert_eq!(parsed("zmq+tcp://h:1?sample_rate=1M").unwrap().format.datatype, Datatype::Cf32Le);
        let stdin = Endpoint::parse("-", Some(Datatype::Cu8), Some(2e6), Some(1e8)).unwrap();
        assert_eq!((stdin.transport, stdin.format.frequency), (Transport::Stdin, Some(1e8)));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_value() {
        for (address, named) in [
            ("-", "--datatype"),
            ("udp://x:1", "no scheme \"udp\""),
            ("rtl_tcp://x", "sample_rate or --sample-rate"),
            ("rtl_tcp://?sample_rate=1M", "no host"),
            ("rtl_tcp://:1234?sample_rate=1M", "no host"),
            ("rtl_tcp://user@x?sample_rate=1M", "its host has '@'"),
            ("rtl_tcp://x/y?sample_rate=1M", "its host has '/'"),
            ("rtl_tcp://x:0?sample_rate=1M", "port is \"0\""),
            ("rtl_tcp://x:y?sample_rate=1M", "port is \"y\""),
            ("rtl_tcp://x?sample_rate=1M&datatype=cu8", "no key \"datatype\""),
            ("rtl_tcp://x?sample_rate=0", "sample_rate is \"0\""),
            ("rtl_tcp://x?sample_rate=1M&frequency=5G", "5000000000 Hz, rtl_tcp takes"),
            ("rtl_tcp://x?sample_rate=1.5", "1.5 Hz, rtl_tcp takes"),
            ("rtl_tcp://x?sample_rate=1M&gain=loud", "gain is \"loud\""),
            ("rtl_tcp://x?sample_rate=1M&ppm=1e9", "ppm is \"1e9\""),
            ("rtl_tcp://x?sample_rate=1M&bias_tee=on", "bias_tee is \"on\""),
            ("rtl_tcp://x?sample_rate=1M&direct_sampling=3", "direct_sampling is \"3\""),
            ("zmq+tcp://x?sample_rate=1M", "no port"),
            ("zmq+tcp://x:1?rate=1M", "no key \"rate\""),
            ("zmq+tcp://x:1?sample_rate=1M&datatype=ri16", "datatype is \"ri16\""),
            ("zmq+tcp://x:1?sample_rate=1M&frequency=high", "frequency is \"high\""),
        ] {
            let error = parsed(address).unwrap_err().to_string();
            assert!(error.starts_with(address) && error.contains(named), "{error}");
        }
        let error = Endpoint::parse("-", Some(Datatype::Cu8), None, None).unwrap_err().to_string();
        assert!(error.contains("give --sample-rate"), "{error}");
        let error = Endpoint::parse("rtl_tcp://x", Some(Datatype::Ci8), Some(1e6), None).unwrap_err();
        assert!(error.to_string().contains("sends cu8, not ci8"), "{error}");
    }
}
