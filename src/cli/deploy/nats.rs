//! The configurations of nats-server, and of the hosts and clients of it, as texts. Pure: the same for the same plan.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::plan::{ClientPlan, ClientRights, HostPlan, Plan, ServerPlan};
use crate::bus::contract::rights::{ANSWER_WITHIN, Hearing, Rights};
use crate::bus::subject::{INBOXES, LOCAL};

/// The table of contents; a folder that has it is ours to write.
pub(super) const README: &str = "README.md";
/// How it begins.
pub(super) const MARK: &str = "<!-- Written by `sidetone deploy nats`";
const NOTE: &str =
    "# Written by `sidetone deploy nats` from the list of hosts. A change here is lost when it is written again.\n";

/// Where a user's secrets go.
#[derive(Debug)]
pub(super) struct UserFiles {
    /// Its seed.
    pub seed: String,
    /// The same for its leaf server.
    pub leaf_seed: Option<String>,
}

/// A user of the servers, with its public key.
#[derive(Debug)]
pub(super) struct User {
    name: String,
    /// What it is, for people.
    about: String,
    nkey: String,
    rights: Rights,
    /// Whether it comes by a leaf, where servers don't know the queue groups of what is heard.
    leaf: bool,
}

/// The folder of a server's files.
pub(super) fn server_folder(server: &ServerPlan) -> String {
    format!("server-{}", server.name)
}

fn host_folder(host: &HostPlan) -> String {
    format!("host-{}", host.name)
}

fn client_folder(name: &str) -> String {
    format!("client-{name}")
}

/// The folders of all machines.
pub(super) fn folders(plan: &Plan) -> Vec<String> {
    let servers = plan.servers.iter().map(server_folder);
    let hosts = plan.hosts.iter().map(host_folder);
    servers.chain(hosts).chain(plan.clients.iter().map(|client| client_folder(&client.name))).collect()
}

/// All users; `key` gives the public key of each.
pub(super) fn users(
    plan: &Plan,
    mut key: impl FnMut(&UserFiles, Option<&str>) -> anyhow::Result<String>,
) -> anyhow::Result<Vec<User>> {
    let mut users = Vec::new();
    for host in &plan.hosts {
        let folder = host_folder(host);
        let leaf_seed = host.leaf.then(|| format!("{folder}/leaf-seed.conf"));
        let files = UserFiles { seed: format!("{folder}/host.nk"), leaf_seed };
        let asks = if host.asks.is_empty() { String::new() } else { format!(", asks {}", host.asks.join(", ")) };
        let roles = if host.roles.is_empty() { "no role".to_owned() } else { host.roles.join(", ") };
        users.push(User {
            name: host.name.clone(),
            about: format!("host: {roles}{asks}"),
            nkey: key(&files, host.nkey.as_deref())?,
            rights: host.rights(),
            leaf: host.leaf,
        });
    }
    for client in &plan.clients {
        let files = UserFiles { seed: format!("{}/client.nk", client_folder(&client.name)), leaf_seed: None };
        let about = match client.rights {
            ClientRights::Admin => "client: may do everything".to_owned(),
            ClientRights::Observer => "client: sees and hears all that is told, asks nothing".to_owned(),
            ClientRights::Caller => {
                format!(
                    "client: asks {}",
                    client.asks.as_ref().map_or_else(|| "everything".to_owned(), |asks| asks.join(", "))
                )
            }
        };
        users.push(User {
            name: client.name.clone(),
            about,
            nkey: key(&files, client.nkey.as_deref())?,
            rights: client.user_rights(),
            leaf: false,
        });
    }
    Ok(users)
}

/// Every text: its path and what is in it.
pub(super) fn render(plan: &Plan, users: &[User]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let all = authorization(users, false);
    for server in &plan.servers {
        let folder = server_folder(server);
        files.insert(format!("{folder}/nats-server.conf"), server_conf(plan, server));
        files.insert(format!("{folder}/users.conf"), all.clone());
    }
    for (host, user) in plan.hosts.iter().zip(users) {
        let folder = host_folder(host);
        files.insert(format!("{folder}/sidetone.toml"), host_toml(plan, host));
        if host.leaf {
            files.insert(format!("{folder}/nats-leaf.conf"), leaf_conf(plan, host));
            files.insert(format!("{folder}/users.conf"), authorization(std::slice::from_ref(user), true));
        }
    }
    for client in &plan.clients {
        let text = settings(plan, &client.name, "", &addresses(plan), "client.nk", true);
        files.insert(format!("{}/sidetone.toml", client_folder(&client.name)), text);
    }
    files.insert(README.to_owned(), readme(plan, users));
    files
}

/// The users and what they may do; `local` is for a leaf, where they keep to themselves as well.
fn authorization(users: &[User], local: bool) -> String {
    let mut out = format!(
        "{NOTE}#\n# Users and what they may do, from what their roles serve and ask (src/wire/contract/rights.rs). Two words are a\n\
         # subject and the queue group in which alone it may be heard.\n\nauthorization {{\n  timeout: 5\n  users: [\n"
    );
    for user in users {
        let _ = write!(
            out,
            "    # {}, {}\n    {{\n      nkey: \"{}\"\n      permissions {{\n",
            user.name, user.about, user.nkey
        );
        let more = if local { vec![LOCAL.to_owned()] } else { Vec::new() };
        let mut publish: Vec<_> = user.rights.publish.iter().cloned().chain(more.clone()).collect();
        if user.leaf && !local {
            // Servers tell a leaf of whom it may publish to, and leave that follows from a request comes too late for that.
            publish.extend(user.rights.answers.then(|| INBOXES.to_owned()));
        }
        let by_queue = |hearing: &Hearing| match &hearing.queue {
            Some(queue) if local || !user.leaf => format!("{} {queue}", hearing.subject),
            _ => hearing.subject.clone(),
        };
        let mut hear: Vec<_> = user.rights.hear.iter().map(by_queue).chain(more).collect();
        hear.dedup();
        allow(&mut out, "publish", publish);
        allow(&mut out, "subscribe", hear);
        if user.rights.answers {
            // One answer, which is the default, is no stream.
            let minutes = ANSWER_WITHIN.as_secs() / 60;
            let _ = writeln!(out, "        allow_responses: {{ max: -1, expires: \"{minutes}m\" }}");
        }
        out.push_str("      }\n    }\n");
    }
    out.push_str("  ]\n}\n");
    out
}

fn allow(out: &mut String, what: &str, subjects: Vec<String>) {
    let _ = writeln!(out, "        {what}: {{ allow: [");
    for subject in subjects {
        let _ = writeln!(out, "          \"{subject}\"");
    }
    out.push_str("        ] }\n");
}

/// The certificate of a server and who vouches for it, on its machine.
fn certificate(plan: &Plan, server: &ServerPlan) -> (String, String, String) {
    match &plan.tls {
        Some(tls) => (tls.cert.clone(), tls.key.clone(), tls.ca.clone()),
        None => {
            let file = |name: &str| format!("{}/{name}", server.folder);
            (file("server.pem"), file("server.key"), file("ca.pem"))
        }
    }
}

fn server_conf(plan: &Plan, server: &ServerPlan) -> String {
    let (cert, key, ca) = certificate(plan, server);
    let (name, folder, port, limits) = (&server.name, &server.folder, server.port, &plan.limits);
    let mut out = format!(
        "{NOTE}#\n# For the machine of the server {name}, in {folder}:  nats-server -c {folder}/nats-server.conf\n\n\
         # Told to end (SIGUSR2), a server stops JetStream at once and sends clients away after the grace period: those of a\n\
         # single server have nowhere else to go meanwhile.\nlame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"\n\n\
         server_name: \"{name}\"\nlisten: \"0.0.0.0:{port}\"\n# What hosts are told of this server: a name that its certificate has.\n\
         client_advertise: \"{}\"\n\n\
         # Large enough for a bare WAV of 80 s from the stock CLI; NATS advises against more.\nmax_payload: {}\n\n\
         jetstream {{\n  store_dir: \"{}\"\n  # What is acknowledged must survive a power failure; by default it may take two minutes to be on disk.\n  \
         sync_interval: always\n  max_file_store: {}\n  max_memory_store: {}\n}}\n\n\
         tls {{\n  cert_file: \"{cert}\"\n  key_file: \"{key}\"\n  min_version: \"1.3\"\n  timeout: 5\n}}\n",
        server.at(port),
        limits.max_payload,
        server.store,
        limits.max_file_store,
        limits.max_memory_store,
    );
    let ca_line = if ca.is_empty() { String::new() } else { format!("    ca_file: \"{ca}\"\n") };
    if plan.servers.len() > 1 {
        let others = plan.servers.iter().filter(|other| other.name != *name);
        let routes: String = others.map(|other| format!("    \"tls://{}\"\n", other.at(other.cluster_port))).collect();
        let _ = write!(
            out,
            "\n# The other servers. Each shows its certificate, so that nobody else can pretend to be one.\n\
             cluster {{\n  name: \"sidetone\"\n  listen: \"0.0.0.0:{}\"\n  cluster_advertise: \"{}\"\n  routes: [\n{routes}  ]\n  \
             tls {{\n    cert_file: \"{cert}\"\n    key_file: \"{key}\"\n{ca_line}    verify: true\n    min_version: \"1.3\"\n    timeout: 5\n  }}\n}}\n",
            server.cluster_port,
            server.at(server.cluster_port),
        );
    }
    if plan.has_leaves() {
        let _ = write!(
            out,
            "\n# Without this, leaves would not be let to the streams and buckets here.\ndefault_js_domain: {{ \"$G\": \"\" }}\n\n# Where the servers of single hosts connect, as the users of these hosts.\n\
             leafnodes {{\n  listen: \"0.0.0.0:{}\"\n  advertise: \"{}\"\n  \
             tls {{\n    cert_file: \"{cert}\"\n    key_file: \"{key}\"\n    min_version: \"1.3\"\n    timeout: 5\n  }}\n}}\n",
            server.leaf_port,
            server.at(server.leaf_port),
        );
    }
    out.push_str("\ninclude \"users.conf\"\n");
    out
}

fn leaf_conf(plan: &Plan, host: &HostPlan) -> String {
    let (name, folder, port) = (&host.name, &host.folder, host.port);
    let urls: String =
        plan.servers.iter().map(|server| format!("        \"tls://{}\"\n", server.at(server.leaf_port))).collect();
    let ca = match &plan.tls {
        None => format!("      tls {{ ca_file: \"{folder}/ca.pem\" }}\n"),
        Some(tls) if tls.ca.is_empty() => String::new(),
        Some(tls) => format!("      tls {{ ca_file: \"{}\" }}\n", tls.ca),
    };
    format!(
        "{NOTE}#\n# A server for the host {name} alone, in {folder}:  nats-server -c {folder}/nats-leaf.conf\n#\n\
         # It listens on loopback, and is a leaf of the other servers: what it does not serve itself goes there, with the\n\
         # rights of this host's user and no more. Streams and buckets are kept there; without a connection there are none.\n\n\
         server_name: \"{name}-leaf\"\nlisten: \"127.0.0.1:{port}\"\nmax_payload: {}\n\n\
         # Streams and buckets are those of the other servers.\ndefault_js_domain: {{ \"$G\": \"\" }}\n\nleafnodes {{\n  remotes: [\n    {{\n      urls: [\n{urls}      ]\n      # The seed of this host: nkey: \"SU…\"\n      include \"leaf-seed.conf\"\n{ca}      \
         # What programs on this host say to each other, such as a sequencer to a light desk, stays here: other hosts\n      \
         # neither hear it nor can say it.\n      deny_exports: [\"{LOCAL}\"]\n      deny_imports: [\"{LOCAL}\"]\n    }}\n  ]\n}}\n\n\
         include \"users.conf\"\n",
        plan.limits.max_payload,
    )
}

/// The addresses of all servers.
fn addresses(plan: &Plan) -> String {
    plan.servers.iter().map(|server| format!("tls://{}", server.at(server.port))).collect::<Vec<_>>().join(",")
}

fn host_toml(plan: &Plan, host: &HostPlan) -> String {
    let roles: Vec<_> = host.roles.iter().map(|role| format!("\"{role}\"")).collect();
    let roles = if roles.is_empty() { String::new() } else { format!("roles = [{}]\n", roles.join(", ")) };
    let url = if host.leaf { format!("nats://127.0.0.1:{}", host.port) } else { addresses(plan) };
    settings(plan, &host.name, &roles, &url, "host.nk", !host.leaf)
}

fn settings(plan: &Plan, name: &str, roles: &str, url: &str, seed: &str, tls: bool) -> String {
    let ca = match &plan.tls {
        _ if !tls => String::new(),
        None => "tls_ca = \"ca.pem\"\n".to_owned(),
        Some(own) if own.ca.is_empty() => String::new(),
        Some(own) => format!("tls_ca = \"{}\"\n", own.ca),
    };
    // Three also of five: what is acknowledged is on a majority of the copies, and each further one costs every append.
    let copies = if plan.servers.len() > 1 { "# Any one server may be lost.\nreplicas = 3\n" } else { "" };
    format!(
        "{NOTE}# Other settings go into a file of their own: sidetone run --config sidetone.toml --config mine.toml\n\n\
         [node]\nname = \"{name}\"\n{roles}\n[bus]\nurl = \"{url}\"\nnkey_file = \"{seed}\"\n{ca}{copies}"
    )
}

fn readme(plan: &Plan, users: &[User]) -> String {
    let mut rows = String::new();
    for server in &plan.servers {
        let _ = writeln!(
            rows,
            "| `{}` | `{}` on the machine of {} | `nats-server -c {}/nats-server.conf` |",
            server_folder(server),
            server.folder,
            server.name,
            server.folder
        );
    }
    for host in &plan.hosts {
        let folder = &host.folder;
        let leaf = if host.leaf { format!("`nats-server -c {folder}/nats-leaf.conf`, then ") } else { String::new() };
        let verb = if host.roles.is_empty() { "ask hello" } else { "run" };
        let _ = writeln!(
            rows,
            "| `{}` | `{folder}` on {} | {leaf}`sidetone {verb} --config {folder}/sidetone.toml` |",
            host_folder(host),
            host.name
        );
    }
    for client in &plan.clients {
        let folder = client_folder(&client.name);
        let verb = if client.rights == ClientRights::Caller { "ask hello" } else { "watch" };
        let _ = writeln!(
            rows,
            "| `{folder}` | anywhere, for {} | `sidetone {verb} --config {folder}/sidetone.toml`; {} |",
            client.name,
            stock_cli(plan, client, &folder)
        );
    }
    let users: String = users.iter().map(|user| format!("| {} | {} |\n", user.name, user.about)).collect();
    let authority = if plan.makes_certificates() {
        "`ca/ca.key` vouches for servers: keep it off all machines. It and `ca/ca.pem` are needed to add a server. Certificates \
         are good for ten years. "
    } else {
        "Certificates are those of the list. "
    };
    format!(
        "{MARK} from the list of hosts. A change here is lost when it is written again. -->\n\
         # A bus with users and TLS\n\n\
         A folder is for one machine and has its secret (`*.nk`, `*.key`, `leaf-seed.conf`): copy it there, for the account \
         that runs the program alone, and nowhere else.\n\n\
         | folder | goes to | start |\n| --- | --- | --- |\n{rows}\n\
         | user | what it is |\n| --- | --- |\n{users}\n\
         To add a host, add it to the list and run the command again: keys and the authority stay. Copy `users.conf` to each \
         server and tell it, `nats-server --signal reload`; whoever lost a right hears of it. {authority}\
         A user whose `nkey` is in the list has made its key itself, and puts the seed into its folder.\n"
    )
}

/// How the stock CLI is called as a user.
fn stock_cli(plan: &Plan, client: &ClientPlan, folder: &str) -> String {
    let what = if client.rights == ClientRights::Caller { "req node.info ''" } else { "micro ls" };
    let ca = match &plan.tls {
        None => format!(" --tlsca {folder}/ca.pem"),
        Some(tls) if tls.ca.is_empty() => String::new(),
        Some(tls) => format!(" --tlsca {}", tls.ca),
    };
    let inbox = crate::bus::subject::inbox(&client.name);
    format!("`nats -s {} --nkey {folder}/client.nk --inbox-prefix {inbox}{ca} {what}`", addresses(plan))
}
