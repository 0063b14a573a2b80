//! The instrumentation scope.

use opentelemetry::InstrumentationScope;

/// The instrumentation scope.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("sferic").with_version(env!("CARGO_PKG_VERSION")).build()
}
