//! sferic
