//! A redis-server of the test's own.

use std::process::Stdio;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::support::PATIENCE;

/// A running server that keeps nothing on disk.
pub struct RedisServer {
    process: Child,
    port: u16,
}

impl RedisServer {
    /// Starts the one on the `PATH` on a free port; `None`, with a message, where there is none.
    pub async fn start(arguments: &[&str]) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        Self::start_on(port, arguments).await
    }

    /// The same on a given port.
    pub async fn start_on(port: u16, arguments: &[&str]) -> Option<Self> {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(process) = process else {
            sferic_tools::skip("there is no redis-server on the PATH; run ops/setup debian redis-server");
            return None;
        };
        let mut server = Self { process, port };
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                assert_eq!(server.process.try_wait().unwrap(), None, "redis-server ended at its start");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.expect("redis-server does not listen");
        Some(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub async fn connection(&self) -> MultiplexedConnection {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    /// Sends it a signal, by name.
    pub async fn signal(&self, name: &str) {
        let pid = self.process.id().expect("it has ended").to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
    }

    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}
