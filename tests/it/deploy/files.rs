//! What is written: taken by nats-server, kept, refused.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::site::{Site, sidetone};

const USERS: &str = "
[[hosts]]
name = \"studio\"
roles = [\"voice\", \"tts\"]
leaf = true
folder = \"HERE/host-studio\"
[[hosts]]
name = \"brain.1\"
roles = [\"llm\", \"agent\", \"stt\"]
[[hosts]]
name = \"stage\"
asks = [\"agent\"]
[[clients]]
name = \"op\"
rights = \"admin\"
[[clients]]
name = \"eye\"
rights = \"observer\"
[[clients]]
name = \"me\"
rights = \"caller\"
";

/// Every file below `folder`, from it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path()).into_iter().map(|file| format!("{name}/{file}"))),
            false => drop(found.insert(name)),
        }
    }
    found
}

/// Whether a nats-server is started with it.
fn is_configuration(file: &str) -> bool {
    file.ends_with("nats-server.conf") || file.ends_with("nats-leaf.conf")
}

#[test]
fn every_configuration_is_valid_to_the_server() {
    for servers in [1, 3] {
        let Some(site) = Site::new(servers, USERS) else { return };
        let all = files(&site.file(""));
        let configurations: Vec<_> = all.iter().filter(|file| is_configuration(file)).collect();
        assert_eq!(configurations.len(), servers + 1, "{all:?}");
        for file in configurations {
            site.check(&site.file(file));
        }
        let (code, text) = site.deploy(&["--check"]);
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn secrets_are_for_their_owner_and_stay() {
    let Some(site) = Site::new(1, USERS) else { return };
    let all = files(&site.file(""));
    let secrets = |file: &&String| [".nk", ".key", "leaf-seed.conf"].iter().any(|end| file.ends_with(end));
    let kept: Vec<_> = all.iter().filter(secrets).map(|file| (file.clone(), site.text(file))).collect();
    assert_eq!(kept.len(), 9, "six users, one of them with a leaf, a server and the authority: {kept:?}");
    let seeds: Vec<_> = kept.iter().filter(|(file, _)| file.ends_with(".nk")).map(|(_, text)| text.trim()).collect();
    for file in &all {
        let mode = std::fs::metadata(site.file(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if secrets(&file) { 0o600 } else { 0o644 }, "{file}");
        let text = site.text(file);
        assert!(secrets(&file) || !seeds.iter().any(|seed| text.contains(seed)), "a seed is in {file}");
        assert!(secrets(&file) || !text.contains("PRIVATE KEY"), "{file}");
    }

    // A host more: the others' keys and the authority are what they were.
    site.list(&format!("{USERS}[[hosts]]\nname = \"rack\"\nroles = [\"llm\"]\n"));
    let (code, text) = site.deploy(&["--check"]);
    assert!(code == 1 && text.contains("host-rack/host.nk is not there yet"), "{text}");
    assert_eq!(site.deploy(&[]).0, 0);
    for (file, text) in &kept {
        // Servers get new certificates, by the same authority.
        assert_eq!(site.text(file) == *text, !file.starts_with("server-"), "{file}");
    }
    assert!(site.text("server-n1/users.conf").contains("# rack, host: llm"));

    let (code, text) = site.deploy(&["--new-keys"]);
    assert_eq!(code, 0, "{text}");
    assert!(kept.iter().all(|(file, text)| site.text(file) != *text), "a key is the old one");

    std::fs::write(site.file("server-n1/users.conf"), "").unwrap();
    let (code, text) = site.deploy(&["--check"]);
    assert!(code == 1 && text.contains("server-n1/users.conf: changed"), "{text}");

    std::fs::write(site.file("host-stage/host.nk"), "SUABC").unwrap();
    let (code, text) = site.deploy(&[]);
    assert!(code == 1 && text.contains("host-stage/host.nk holds no seed"), "{text}");
    std::fs::remove_file(site.file("host-stage/host.nk")).unwrap();
    std::fs::remove_file(site.file("ca/ca.key")).unwrap();
    let (code, text) = site.deploy(&[]);
    assert!(code == 1 && text.contains("only the second is there") && text.contains("--new-keys"), "{text}");
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    std::fs::write(folder.path().join("mine/README.md"), "# Mine").unwrap();
    std::fs::write(folder.path().join("hosts.toml"), wrong("", "")).unwrap();
    for what in ["nats", "systemd"] {
        let (code, text) = sidetone(folder.path(), &["deploy", what, "--out", "mine"]);
        assert!(code == 1 && text.contains("mine holds other files") && text.contains("--out"), "{text}");
    }
    assert_eq!(files(&folder.path().join("mine")), BTreeSet::from(["README.md".to_owned()]));
}

/// A list that is right, but for `from`, which is replaced.
fn wrong(from: &str, to: &str) -> String {
    let right = "[[servers]]\nname = \"s1\"\naddresses = [\"nats.lan\"]\n[[hosts]]\nname = \"a\"\nroles = [\"stt\"]\n\
                 [[clients]]\nname = \"b\"\nrights = \"caller\"\n[limits]\nmax_payload = \"8MB\"\n";
    assert!(right.contains(from));
    if from.is_empty() { right.to_owned() } else { right.replacen(from, to, 1) }
}

#[test]
fn mistakes_in_the_list_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = |text: &str| {
        std::fs::write(folder.path().join("hosts.toml"), text).unwrap();
        sidetone(folder.path(), &["deploy", "nats", "--out", "out"])
    };
    let server = "[[servers]]\nname = \"s1\"\naddresses = [\"nats.lan\"]\n";
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    let account = nkeys::KeyPair::new_account().public_key();
    let three: String = ["s1", "s2", "s3"].iter().map(|name| server.replace("s1", name)).collect();
    let of_systems = format!("[tls]\ncert = \"/c\"\nkey = \"/k\"\n{three}");
    for (from, to, words) in [
        (server, of_systems.as_str(), &["tls.ca is empty", "any public", "leave out [tls]"][..]),
        ("[\"stt\"]", "[\"sst\"]", &["host \"a\"", "no role \"sst\"", "voice, stt"][..]),
        ("[\"stt\"]", "[]", &["host \"a\"", "no roles and asks nothing"]),
        ("roles = [\"stt\"]", "asks = [\"tea\"]", &["host \"a\"", "\"tea\"", "agent"]),
        ("roles = [", "role = [", &["unknown field `role`", "roles", "line 6"]),
        ("name = \"b\"", "name = \"A\"", &["client \"A\"", "twice"]),
        ("name = \"a\"", "name = \"a b\"", &["host \"a b\"", "letters"]),
        ("name = \"a\"", "name = \"*\"", &["host \"*\"", "letters"]),
        ("name = \"a\"", "name = \"../x\"", &["host \"../x\"", "letters"]),
        ("name = \"s1\"", "name = \"\"", &["server \"\"", "letters"]),
        ("caller", "king", &["king", "admin"]),
        ("rights = \"caller\"", "rights = \"admin\"\nasks = [\"stt\"]", &["client \"b\"", "asks"]),
        (server, "", &["no server", "[[servers]]"]),
        (server, &server.repeat(2), &["2 servers", "3 or 5"]),
        (server, &server.repeat(3), &["server \"s1\"", "twice"]),
        ("[\"nats.lan\"]", "[]", &["server \"s1\"", "no addresses"]),
        ("nats.lan", "nats.lan:4222", &["nats.lan:4222", "no host name"]),
        ("nats.lan\"]", "nats.lan\"]\nfolder = \"etc\"", &["folder", "whole path"]),
        ("nats.lan\"]", "nats.lan\"]\nport = 6222", &["three different ports"]),
        ("8MB", "8 MB", &["limits.max_payload", "8MB"]),
        ("roles = [\"stt\"]", "roles = [\"stt\"]\nnkey = \"UABC\"", &["\"a\"", "UABC", "no public key"]),
        ("roles = [\"stt\"]", &format!("roles = [\"stt\"]\nnkey = \"{account}\""), &["no public key of a user"]),
        ("roles = [\"stt\"]", &format!("roles = [\"stt\"]\nnkey = \"{seed}\""), &["\"a\"", "secret seed"]),
        ("[limits]", "[tls]\ncert = \"c\"\nkey = \"/k\"\n[limits]", &["tls.cert", "whole path"]),
    ] {
        let (code, text) = run(&wrong(from, to));
        assert_eq!(code, 2, "{to}: {text}");
        assert!(text.contains("hosts.toml") && words.iter().all(|word| text.contains(word)), "{to}: {text}");
        assert!(!text.contains(&seed), "{text}");
        assert!(!folder.path().join("out").exists(), "something was written");
    }
    std::fs::remove_file(folder.path().join("hosts.toml")).unwrap();
    let (code, text) = sidetone(folder.path(), &["deploy", "nats"]);
    assert!(code == 2 && text.contains("hosts.toml") && text.contains("deploy/nats"), "{text}");
    assert_eq!(run(&wrong("", "")).0, 0);
}

#[test]
fn what_is_committed_is_what_this_program_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for example in ["one", "cluster"] {
        let folder = format!("deploy/nats/{example}");
        let hosts = format!("{folder}/hosts.toml");
        let (code, text) = sidetone(root, &["deploy", "nats", "--hosts", &hosts, "--out", &folder, "--check"]);
        assert_eq!(code, 0, "`make contract` mends it: {text}");
        let all = files(&root.join(&folder));
        let plain = |file: &&String| [".conf", ".toml", ".md"].iter().any(|end| file.ends_with(end));
        assert!(all.iter().all(|file| plain(&file)), "no keys are committed: {all:?}");

        // On the machines the certificates are elsewhere.
        let Some(site) = Site::new(1, USERS) else { continue };
        let path = |file: &str| site.file(file).to_str().unwrap().to_owned();
        let there = [
            ("/etc/nats/server.pem", path("server-n1/server.pem")),
            ("/etc/nats/server.key", path("server-n1/server.key")),
            ("/etc/ssl/studio-ca.pem", path("ca/ca.pem")),
        ];
        for file in all.iter().filter(|file| file.ends_with(".conf")) {
            let text = std::fs::read_to_string(root.join(&folder).join(file)).unwrap();
            let text = there.iter().fold(text, |text, (from, to)| text.replace(from, to));
            let copy = site.folder.path().join(example).join(file);
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::write(&copy, text).unwrap();
            std::fs::copy(site.file("host-studio/leaf-seed.conf"), copy.with_file_name("leaf-seed.conf")).unwrap();
        }
        for file in all.iter().filter(|file| is_configuration(file)) {
            site.check(&site.folder.path().join(example).join(file));
        }
    }
    let (code, text) = sidetone(root, &["deploy", "systemd", "--out", "deploy/systemd", "--check"]);
    assert_eq!(code, 0, "`make contract` mends it: {text}");
}
