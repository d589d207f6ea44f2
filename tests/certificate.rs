//! The encrypted listener's certificate is renewed under a running process: new connections get the new one, open ones
//! go on, and files that cannot be used change nothing but the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use support::{PATIENCE, Process, write_config};

/// A running instance whose certificate lies in a folder of its own, and its log.
struct Rig {
    folder: tempfile::TempDir,
    process: Process,
    address: String,
}

/// Which of the two certificates in the tests' folder.
#[derive(Clone, Copy)]
enum Pair {
    First,
    Second,
}

impl Pair {
    fn files(self) -> (PathBuf, PathBuf) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ingest/support/tls");
        match self {
            Pair::First => (folder.join("certificate.pem"), folder.join("key.pem")),
            Pair::Second => (folder.join("other-certificate.pem"), folder.join("other-key.pem")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Pair::First => "localhost",
            Pair::Second => "other.localhost",
        }
    }
}

impl Rig {
    fn start() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let (certificate, key) = Pair::First.files();
        std::fs::copy(certificate, folder.path().join("certificate.pem")).unwrap();
        std::fs::copy(key, folder.path().join("key.pem")).unwrap();
        let config = write_config(
            folder.path(),
            &format!(
                r#"
                [server]
                listen = "127.0.0.1:0"
                [server.tls]
                listen = "127.0.0.1:0"
                certificate = "{at}/certificate.pem"
                key = "{at}/key.pem"
                [admin]
                listen = "127.0.0.1:0"
                [[sources]]
                name = "app"
                write_key = "certificate-test-key"
                [queue]
                path = "{at}/data"
                "#
            ),
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
        command.args(["serve", "--config", &config]).env("FANOUT_LOG", "info");
        command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        let mut process = Process::start(command);
        let address = process.wait_for("https://");
        process.wait_for("ready");
        Rig { folder, process, address }
    }

    /// Puts a file in place at once, as renewing programs do.
    fn put(&self, name: &str, contents: &Path) {
        let new = self.folder.path().join("new");
        std::fs::copy(contents, &new).unwrap();
        std::fs::rename(new, self.folder.path().join(name)).unwrap();
    }

    fn hang_up(&self) {
        kill_process(Pid::from_raw(self.process.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn wait_for_log(&self, words: &str) {
        wait_until(words, || self.log().contains(words));
    }

    /// A connection that trusts one certificate and no other.
    fn connect(&self, trusted: Pair) -> std::io::Result<Connection> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(trusted.files().0).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let session =
            rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(trusted.name()).unwrap())
                .unwrap();
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut connection = Connection(BufReader::new(rustls::StreamOwned::new(session, stream)));
        connection.ask()?;
        Ok(connection)
    }
}

struct Connection(BufReader<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>);

impl Connection {
    /// One request, after which the connection stays open.
    fn ask(&mut self) -> std::io::Result<()> {
        self.0.get_mut().write_all(b"GET /cluster-info HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut length = 0;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line.trim() != "" {
            line.clear();
            self.0.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        self.0.read_exact(&mut vec![0; length])
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    let rig = Rig::start();
    let mut open = rig.connect(Pair::First).unwrap();
    assert!(rig.connect(Pair::Second).is_err());
    // Half a renewal, as a look between both files would see it.
    let (certificate, key) = Pair::Second.files();
    rig.put("certificate.pem", &certificate);
    rig.connect(Pair::First).unwrap();
    rig.put("key.pem", &key);
    wait_until("the new certificate", || rig.connect(Pair::Second).is_ok());
    assert!(rig.connect(Pair::First).is_err(), "new connections get the new one only");
    open.ask().unwrap();
    rig.wait_for_log("the certificate has changed");
    assert!(rig.process.terminate());
}

#[test]
fn files_that_cannot_be_used_leave_the_old_certificate_in_use() {
    let rig = Rig::start();
    rig.put("key.pem", &Pair::Second.files().1);
    rig.hang_up();
    rig.wait_for_log("belongs to another certificate; take both from one renewal");
    rig.connect(Pair::First).unwrap();
    std::fs::remove_file(rig.folder.path().join("certificate.pem")).unwrap();
    rig.hang_up();
    rig.wait_for_log("certificate.pem: the file cannot be read");
    rig.connect(Pair::First).unwrap();
    assert_eq!(rig.log().matches("the old one stays in use").count(), 2, "{}", rig.log());
    rig.put("certificate.pem", &Pair::Second.files().0);
    rig.hang_up();
    wait_until("the new certificate", || rig.connect(Pair::Second).is_ok());
    assert!(rig.process.terminate());
}
