//! What every frame is accounted by: its permits, its ticket in the ledger, its trail, and the gaps in the
//! numbers of its source.

pub mod admission;
pub mod gaps;
pub mod ledger;
pub mod trail;
