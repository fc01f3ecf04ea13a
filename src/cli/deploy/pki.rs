//! Keys and certificates: those that are there are kept, the others made.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::folder::{Folder, Made};
use super::nats;
use super::plan::Plan;
use crate::secret::Secret;

/// How long certificates are good: longer than the machines.
const YEARS: u32 = 10;
const DAY: Duration = Duration::from_secs(86_400);
const CA_CERT: &str = "ca/ca.pem";
const CA_KEY: &str = "ca/ca.key";

/// The keys of an installation.
pub(super) struct Keys<'a> {
    folder: &'a Folder,
    replaces: bool,
    only_look: bool,
    made: Vec<Made>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(folder: &'a Folder, replaces: bool, only_look: bool) -> Self {
        Self { folder, replaces, only_look, made: Vec::new() }
    }

    /// The files to write.
    pub(super) fn into_files(self) -> Vec<Made> {
        self.made
    }

    fn add(&mut self, file: impl Into<String>, text: impl Into<String>, private: bool) {
        self.made.push(Made { file: file.into(), text: Secret::new(text), private });
    }

    /// The text of a file that was made before.
    fn kept(&self, file: &str) -> anyhow::Result<Option<String>> {
        if self.replaces {
            return Ok(None);
        }
        let path = self.folder.path(file);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
        }
    }

    /// The public key of the user whose seed is kept in `file`, or who has given it. With the seed in a configuration of
    /// a leaf beside it, if there is one.
    pub(super) fn of_user(&mut self, user: &nats::UserFiles, given: Option<&str>) -> anyhow::Result<String> {
        if let Some(key) = given {
            return Ok(key.to_owned());
        }
        let (pair, is_new) = match self.kept(&user.seed)? {
            Some(text) => {
                let pair = nkeys::KeyPair::from_seed(text.trim()).with_context(|| {
                    let path = self.folder.path(&user.seed);
                    format!("{} holds no seed of an nkey: remove it, and a new one is made", path.display())
                })?;
                (pair, false)
            }
            None if self.only_look => bail!("{} is not there yet", self.folder.path(&user.seed).display()),
            None => (nkeys::KeyPair::new_user(), true),
        };
        let seed = pair.seed()?;
        if is_new {
            self.add(&user.seed, format!("{seed}\n"), true);
        }
        if let Some(file) = &user.leaf_seed
            && (is_new || !self.folder.path(file).exists())
        {
            self.add(file, format!("nkey: \"{seed}\"\n"), true);
        }
        Ok(pair.public_key())
    }

    /// Makes the authority, unless it is there, and a certificate a server. Servers get new ones each time: their
    /// addresses may be others, and the old ones are not known.
    pub(super) fn certificates(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let mut ca = params(Vec::new(), "Sidetone's NATS servers")?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (key, cert) = match (self.kept(CA_KEY)?, self.kept(CA_CERT)?) {
            (Some(key), Some(cert)) => {
                let path = self.folder.path(CA_KEY);
                (KeyPair::from_pem(&key).with_context(|| format!("{} is no private key", path.display()))?, cert)
            }
            (None, None) => {
                let key = KeyPair::generate()?;
                let cert = ca.self_signed(&key)?.pem();
                self.add(CA_KEY, key.serialize_pem(), true);
                self.add(CA_CERT, &cert, false);
                (key, cert)
            }
            (key, _) => bail!(
                "of {CA_KEY} and {CA_CERT} only the {} is there: bring the other back, or make new ones with --new-keys",
                if key.is_some() { "first" } else { "second" }
            ),
        };
        let issuer = Issuer::new(ca, key);
        for server in &plan.servers {
            let mut params = params(server.addresses.clone(), &server.name)?;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            // Servers of a cluster show each other their certificates.
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let signed = params.signed_by(&key, &issuer)?;
            let folder = nats::server_folder(server);
            self.add(format!("{folder}/server.pem"), signed.pem(), false);
            self.add(format!("{folder}/server.key"), key.serialize_pem(), true);
        }
        let folders = nats::folders(plan);
        for folder in folders {
            self.add(format!("{folder}/ca.pem"), &cert, false);
        }
        Ok(())
    }
}

fn params(names: Vec<String>, called: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, called);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let at = |since: Duration| rcgen::date_time_ymd(1970, 1, 1) + since;
    // Clocks differ.
    params.not_before = at(now.saturating_sub(2 * DAY));
    params.not_after = at(now + YEARS * 365 * DAY);
    Ok(params)
}
