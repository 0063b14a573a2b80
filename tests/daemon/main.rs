//! The whole daemon, from outside: each test starts its own nats-server on a free port.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test may panic

mod batch;
mod breaker;
mod cache;
mod commands;
mod connecting;
mod contract;
mod faults;
mod frames;
mod http;
mod http_client;
mod http_guard;
mod http_judged;
mod input;
mod jetstream;
mod jetstream_commands;
mod jetstream_guards;
mod jetstream_shared;
mod logs;
mod metrics;
mod model_service;
mod models;
mod odd_messages;
mod publishing;
mod readiness;
mod receiver;
mod redis_server;
mod service;
mod shared_cache;
mod signing_in;
mod support;
mod tensors;
mod tls;
mod traces;
mod watching;
mod wire;
