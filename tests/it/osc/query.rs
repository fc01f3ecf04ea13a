//! OSCQuery: the address space over HTTP, values and messages over a WebSocket, the announcement.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use mdns_sd::{ServiceDaemon, ServiceEvent};
use serde_json::{Value, json};
use sidetone::osc::{Limits, OscMessage, OscType, decode};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::host::{FAKES, HostSpec};
use crate::support::nats::{Nats, eventually, within};
use crate::support::osc::{OscHost, first_text, message};

async fn get(host: &OscHost, path: &str) -> (u16, Value) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let response = within(reqwest::get(format!("http://{}{path}", host.query))).await.unwrap();
    let (status, body) = (response.status().as_u16(), response.text().await.unwrap());
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

const HANDLER: &str = "[[osc.on]]\naddress = \"/cue/go\"\nargs = [\"fade\"]\ndo = \"stop\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_address_space_is_shown() {
    let host = OscHost::start("voice,osc", HANDLER).await;
    let (status, info) = get(&host, "/?HOST_INFO").await;
    assert_eq!((status, &info["NAME"], &info["OSC_TRANSPORT"]), (200, &json!("Sidetone stage"), &json!("UDP")));
    assert_eq!(info["OSC_PORT"], host.at.port());
    assert!(info["EXTENSIONS"]["LISTEN"].as_bool().unwrap() && info["EXTENSIONS"]["VALUE"].as_bool().unwrap());
    let (_, root) = get(&host, "/").await;
    let assistant = &root["CONTENTS"]["assistant"]["CONTENTS"];
    assert_eq!(assistant["say"]["FULL_PATH"], "/assistant/say");
    assert_eq!((&assistant["say"]["TYPE"], &assistant["say"]["ACCESS"]), (&json!("s"), &json!(2)));
    assert_eq!(assistant["level"]["ACCESS"], 1);
    assert_eq!(assistant["mode"]["RANGE"], json!([{ "VALS": ["wake", "open", "push_to_talk"] }]));
    assert_eq!(assistant["main"]["CONTENTS"]["mute"]["ACCESS"], 3);
    assert_eq!(root["CONTENTS"]["cue"]["CONTENTS"]["go"]["TYPE"], "f");
    assert_eq!(get(&host, "/assistant/ptt?RANGE").await, (200, json!({ "RANGE": [{ "MIN": 0.0, "MAX": 1.0 }] })));
    assert_eq!(get(&host, "/assistant/say?VALUE").await.0, 204);
    assert_eq!(get(&host, "/assistant/say?COLOUR").await.0, 400);
    assert_eq!(get(&host, "/nowhere").await.0, 404);
    let value = within(async {
        loop {
            let (status, value) = get(&host, "/assistant/mode?VALUE").await;
            if status == 200 {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(value.await, json!({ "VALUE": ["push_to_talk"] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_hears_what_it_listens_to_and_sends() {
    let host = OscHost::start("voice,osc", HANDLER).await;
    let url = format!("ws://{}/", host.query);
    let (mut socket, _) = within(tokio_tungstenite::connect_async(&url)).await.unwrap();
    let command = |command: &str, path: &str| Message::text(json!({ "COMMAND": command, "DATA": path }).to_string());
    socket.send(command("LISTEN", "/assistant/muted")).await.unwrap();
    let muted = OscMessage { addr: "/assistant/mute".to_owned(), args: vec![OscType::Int(1)] };
    socket.send(Message::binary(message(&muted.addr, &muted.args))).await.unwrap();
    // It may be told the value of before, too.
    loop {
        let Message::Binary(packet) = within(socket.next()).await.unwrap().unwrap() else { panic!("OSC is binary") };
        let [timed] = decode(&packet, &Limits::default()).unwrap().try_into().unwrap();
        assert_eq!(timed.message.addr, "/assistant/muted");
        if timed.message.args == [OscType::Int(1)] {
            break;
        }
    }
    socket.send(command("IGNORE", "/assistant/muted")).await.unwrap();
    socket.send(command("DANCE", "/assistant/muted")).await.unwrap();
    socket.send(Message::binary(message(&muted.addr, &[OscType::Int(0)]))).await.unwrap();
    socket.send(Message::binary(message("/assistant/ping", &[OscType::Int(5)]))).await.unwrap();
    let answer = within(socket.next()).await.unwrap().unwrap();
    assert_eq!(answer.into_data().as_ref(), message("/assistant/pong", &[OscType::Int(5)]));
    socket.send(Message::binary(b"nonsense".to_vec())).await.unwrap();
    let answer = within(socket.next()).await.unwrap().unwrap().into_data();
    assert!(answer.starts_with(b"/assistant/error\0"), "{answer:?}");

    // A page of another server may not, nor one from nowhere, nor one under a name that was made to lead here.
    let own = format!("http://{}", host.query);
    let pages = [
        (None, "http://example.org"),
        (None, "null"),
        (Some("evil.example:9001"), "http://evil.example:9001"),
        (Some("evil.example:9001"), own.as_str()),
    ];
    for (name, origin) in pages {
        let mut request = url.as_str().into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        if let Some(name) = name {
            request.headers_mut().insert("host", name.parse().unwrap());
        }
        let refused = within(tokio_tungstenite::connect_async(request)).await.unwrap_err();
        assert!(matches!(&refused, Error::Http(response) if response.status() == 403), "{refused}");
    }
    let mut request = url.as_str().into_client_request().unwrap();
    request.headers_mut().insert("origin", own.parse().unwrap());
    within(tokio_tungstenite::connect_async(request)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_made_to_lead_here_is_shown_nothing() {
    let host = OscHost::start("osc", "").await;
    let ask = async |name: String| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = reqwest::Client::new().get(format!("http://{}/", host.query)).header("host", name);
        within(request.send()).await.unwrap().status().as_u16()
    };
    assert_eq!(ask("evil.example:9001".to_owned()).await, 403);
    assert_eq!(ask(format!("stage.local:{}", host.query.port())).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_nothing() {
    let spec = HostSpec::new("stage", "osc").set(&["osc.allow=[\"10.0.0.0/8\"]"]);
    let host = OscHost::with(spec, "", &[]).await;
    assert_eq!(get(&host, "/").await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn surfaces_find_the_host_by_themselves() {
    let host = OscHost::with(HostSpec::new("stage", "osc"), "", &["osc.announce=true"]).await;
    let daemon = ServiceDaemon::new().unwrap();
    for (kind, port) in [("_osc._udp.local.", host.at.port()), ("_oscjson._tcp.local.", host.query.port())] {
        let found = daemon.browse(kind).unwrap();
        let service = within(async {
            loop {
                let event = found.recv_async().await.unwrap();
                if let ServiceEvent::ServiceResolved(service) = event
                    && service.port == port
                {
                    return service;
                }
            }
        });
        assert!(service.await.fullname.starts_with("Sidetone stage."));
    }
    let _ = daemon.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_listeners_means_those_that_are_there() {
    let Some(nats) = Nats::start().await else { return };
    let gate = OscHost::with(HostSpec::new("gate", "osc").on(&nats.url()), "", &[]).await;
    let surface = gate.surface();
    surface.send("/assistant/mute", &[OscType::Int(1)]);
    assert!(first_text(&surface.until("/assistant/error")).contains("there is no listener"));
    let (mut socket, _) = within(tokio_tungstenite::connect_async(format!("ws://{}/", gate.query))).await.unwrap();
    // Clients are told that there is more now.
    let voice =
        HostSpec::new("stage", "voice").on(&nats.url()).set(FAKES).set(&["voice.listeners=[{mode=\"push_to_talk\"}]"]);
    let voice = voice.start().await;
    let changed = within(async {
        loop {
            if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
                return serde_json::from_str::<Value>(text.as_str()).unwrap();
            }
        }
    });
    assert_eq!(changed.await, json!({ "COMMAND": "PATH_CHANGED", "DATA": "/assistant" }));
    let (status, mute) = get(&gate, "/assistant/stage/main/mute").await;
    assert_eq!((status, &mute["ACCESS"]), (200, &json!(3)));
    surface.send("/assistant/subscribe", &[]);
    surface.send("/assistant/mute", &[OscType::Int(1)]);
    surface.until_that("/assistant/stage/main/muted", |args| args == [OscType::Int(1)]);
    // Once it is gone nothing is left of it, neither there nor for who asks for all.
    drop(voice);
    eventually(|| async { (get(&gate, "/assistant/stage/main/mute").await.0 == 404).then_some(()) }).await;
    eventually(|| async {
        surface.settle();
        surface.send("/assistant/sync", &[]);
        let seen = surface.settle();
        seen.iter().all(|message| !message.addr.starts_with("/assistant/stage/")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_is_silent_is_asked_whether_it_lives() {
    let host = OscHost::start("osc", "").await;
    let (mut socket, _) = within(tokio_tungstenite::connect_async(format!("ws://{}/", host.query))).await.unwrap();
    loop {
        match within(socket.next()).await.unwrap().unwrap() {
            Message::Ping(_) => return,
            Message::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
