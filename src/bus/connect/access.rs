//! How a user gets onto the bus: the server's address, who it is, and what it trusts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;

use super::error::BusError;
use crate::secret::Secret;

/// A way onto the bus.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The server's address, or several of a cluster, separated by commas.
    pub url: String,
    /// The user's name among the server's permissions; empty: the host's.
    pub user: String,
    /// What proves that it is the user.
    pub proof: Proof,
    /// The certificates (PEM) of those who may vouch for the server; `None`: the system's.
    pub tls_ca: Option<PathBuf>,
    /// The user's own certificate and its key (PEM), for a server that asks for one.
    pub tls_cert: Option<(PathBuf, PathBuf)>,
}

/// What proves who a user is.
#[derive(Debug, Clone, Default)]
pub enum Proof {
    /// Nothing, or what the address says.
    #[default]
    Address,
    /// The seed of an nkey.
    Nkey(Secret),
    /// The text of a credentials file: a JWT and a seed.
    Credentials(Secret),
}

impl From<&str> for Access {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }
}

impl From<&String> for Access {
    fn from(url: &String) -> Self {
        Self::from(url.as_str())
    }
}

/// The files of a way onto the bus, as the settings name them; empty names name none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// The seed of an nkey.
    pub nkey: &'a str,
    /// A credentials file.
    pub credentials: &'a str,
    /// Certificates that are trusted.
    pub tls_ca: &'a str,
    /// The user's own certificate.
    pub tls_cert: &'a str,
    /// Its key.
    pub tls_key: &'a str,
}

impl Access {
    /// Reads what `files` name.
    ///
    /// # Errors
    /// [`BusError::Access`] names the setting, the file, and the mistake.
    pub fn read(url: &str, user: &str, files: Files<'_>) -> Result<Self, BusError> {
        let proof = match (files.nkey, files.credentials) {
            ("", "") => Proof::Address,
            (_, "") => Proof::Nkey(seed(files.nkey)?),
            ("", file) => Proof::Credentials(Secret::new(secret("bus.creds", file)?)),
            (file, _) => return Err(wrong("bus.nkey_file", file, "bus.creds is set as well: only one of them can be")),
        };
        let tls_cert = match (files.tls_cert, files.tls_key) {
            ("", "") => None,
            (cert, "") => return Err(wrong("bus.tls_cert", cert, "it needs its key in bus.tls_key")),
            ("", key) => return Err(wrong("bus.tls_key", key, "it needs its certificate in bus.tls_cert")),
            (cert, key) => Some((pem("bus.tls_cert", cert)?, pem("bus.tls_key", key)?)),
        };
        let tls_ca = if files.tls_ca.is_empty() { None } else { Some(pem("bus.tls_ca", files.tls_ca)?) };
        Ok(Self { url: url.to_owned(), user: user.to_owned(), proof, tls_ca, tls_cert })
    }

    /// The client's options for it.
    pub(super) fn options(&self) -> Result<ConnectOptions, BusError> {
        let mut options = match &self.proof {
            Proof::Address => ConnectOptions::new(),
            Proof::Nkey(seed) => ConnectOptions::with_nkey(seed.expose().to_owned()),
            Proof::Credentials(text) => ConnectOptions::with_credentials(text.expose())
                .map_err(|e| wrong("bus.creds", "", &format!("it holds no credentials ({e})")))?,
        };
        if let Some(ca) = &self.tls_ca {
            // With these alone: a server that the system's authorities vouch for is another one.
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some((cert, key)) = &self.tls_cert {
            options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
        }
        Ok(options)
    }
}

fn wrong(setting: &str, file: &str, why: &str) -> BusError {
    BusError::Access { what: format!("{setting} {file}").trim_end().to_owned(), why: why.to_owned() }
}

fn seed(file: &str) -> Result<Secret, BusError> {
    let setting = "bus.nkey_file";
    let text = secret(setting, file)?;
    // `nk` and nsc write comments and blank lines beside the seed.
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
    match seed.map(|seed| (seed, nkeys::KeyPair::from_seed(seed))) {
        Some((seed, Ok(_))) => Ok(Secret::new(seed)),
        Some((_, Err(error))) => Err(wrong(setting, file, &format!("the seed in it is damaged ({error})"))),
        None => Err(wrong(setting, file, "there is no seed of a user in it: a line that begins with SU")),
    }
}

/// Reads a file that others should not be able to.
fn secret(setting: &str, file: &str) -> Result<String, BusError> {
    let failed = |e: std::io::Error| wrong(setting, file, &format!("can't read it: {e}"));
    let mode = std::fs::metadata(file).map_err(failed)?.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(file, "every user of this machine can read this secret: chmod 600 it");
    }
    std::fs::read_to_string(file).map_err(failed)
}

/// A file that must be there, and look like PEM.
fn pem(setting: &str, file: &str) -> Result<PathBuf, BusError> {
    let text = std::fs::read_to_string(file).map_err(|e| wrong(setting, file, &format!("can't read it: {e}")))?;
    if !text.contains("-----BEGIN ") {
        return Err(wrong(setting, file, "it is not in PEM: there is no line -----BEGIN …"));
    }
    Ok(Path::new(file).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_will_not_do_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let written = |name: &str, text: &str| {
            std::fs::write(path(name), text).unwrap();
            path(name)
        };
        let (key, pair) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_account());
        let good = written("good.nk", &format!("# of studio\n{}\n", key.seed().unwrap()));
        let account = written("account.nk", &pair.seed().unwrap());
        let damaged = written("damaged.nk", &key.seed().unwrap().replace(char::is_numeric, "A"));
        let text = written("text.pem", "hello");
        let none = path("none");
        let read = |files: Files<'_>| Access::read("tls://x", "studio", files);
        let Proof::Nkey(seed) = read(Files { nkey: &good, ..Files::default() }).unwrap().proof else { panic!() };
        assert_eq!(seed.expose(), key.seed().unwrap());
        for (files, words) in [
            (Files { nkey: &none, ..Files::default() }, ["bus.nkey_file", "none", "can't read"]),
            (Files { nkey: &account, ..Files::default() }, ["bus.nkey_file", "account.nk", "SU"]),
            (Files { nkey: &damaged, ..Files::default() }, ["bus.nkey_file", "damaged.nk", "damaged ("]),
            (Files { nkey: &good, credentials: &none, ..Files::default() }, ["bus.nkey_file", "bus.creds", "only one"]),
            (Files { tls_ca: &text, ..Files::default() }, ["bus.tls_ca", "text.pem", "PEM"]),
            (Files { tls_ca: &none, ..Files::default() }, ["bus.tls_ca", "none", "can't read"]),
            (Files { tls_cert: &text, ..Files::default() }, ["bus.tls_cert", "text.pem", "bus.tls_key"]),
        ] {
            let error = read(files).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
            assert!(!error.contains(&key.seed().unwrap()));
        }
        assert!(!format!("{:?}", read(Files { nkey: &good, ..Files::default() })).contains(&key.seed().unwrap()));
    }
}
