//! Two versions of a model compared while both serve: whether one is worse.
//!
//! Pure and synchronous. Every test here may be looked at after each frame: under the null hypothesis the
//! evidence of a coin or a bet is a nonnegative supermartingale that begins at 1, so that by Ville's
//! inequality it ever reaches `1/α` with probability at most `α`. For failures and latency it is a mean of
//! coins whose bias is measured; `strata.rs` says what of that is simulated and not proven.

mod evidence;
mod histogram;
mod latencies;
mod paired;
mod score;
mod strata;
mod tally;
mod trial;

pub use evidence::{Bets, Coin};
pub use latencies::Latencies;
pub use paired::{Labels, Pair, Paired, PairedView, Positions, TruthView};
pub use score::{Truth, coverage, error, log_score};
pub use strata::Arm;
pub use tally::{Tally, TallyView};
pub use trial::{Evidence, Limits, Trial, Worse};
