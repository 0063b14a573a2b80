//! What every frame is accounted by: its permits, its ticket in the ledger, its trail, and the gaps in the
//! numbers of its source; and what bounds the copies of frames.

pub mod admission;
pub mod copies;
pub mod gaps;
pub mod ledger;
pub mod trail;
