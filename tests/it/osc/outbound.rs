//! What goes out by OSC: to targets of any kind, from the bus and the command line.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::osc::{Arg, Out};
use sidetone::bus::subject::Target;
use sidetone::bus::{BusError, Call};
use sidetone::osc::OscType;

use crate::support::host::HostSpec;
use crate::support::nats::{Nats, eventually, free_port, program, within};
use crate::support::osc::{OscDump, OscHost, Surface, text};

fn out(target: &str, address: &str, args: Vec<Arg>) -> Out {
    Out { target: target.to_owned(), address: address.to_owned(), args, at: None }
}

async fn send(host: &OscHost, out: &Out) -> Result<String, BusError> {
    let call = Call::within(Duration::from_secs(5));
    host.host.bus().ask(Target::Any, out, &call).await.map(|sent| sent.to)
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_are_reached_by_udp_tcp_broadcast_and_multicast() {
    let [udp, sized, slip, group, wide] = [free_port(), free_port(), free_port(), free_port(), free_port()];
    let settings = format!(
        "[osc.targets]\nplain = \"localhost:{udp}\"\nsized = {{ to = \"127.0.0.1:{sized}\", by = \"tcp_size\" }}\n\
         slip = {{ to = \"127.0.0.1:{slip}\", by = \"tcp\" }}\nwide = \"127.255.255.255:{wide}\"\n\
         group = {{ to = \"239.192.7.7:{group}\", interface = \"127.0.0.1\" }}\n"
    );
    let mut plain = OscDump::start(&udp.to_string());
    let host = OscHost::start("osc", &settings).await;
    let scene = |target: &str| {
        let args = vec![Arg::Int(3), Arg::Float(0.5), Arg::Text("red".to_owned()), Arg::Bool(true), Arg::Int64(1)];
        out(target, "/scene", args)
    };
    let shown = "/scene ifsTh 3 0.500000 \"red\" #T 1";
    // Its name is looked up beside, and oscdump may not listen yet.
    eventually(|| async { send(&host, &scene("plain")).await.ok() }).await;
    let line = async {
        loop {
            tokio::select! {
                line = plain.next() => return line,
                () = tokio::time::sleep(Duration::from_millis(200)) => drop(send(&host, &scene("plain")).await),
            }
        }
    };
    assert_eq!(within(line).await, shown);

    // A target that comes later is connected then.
    let error = send(&host, &scene("sized")).await.unwrap_err();
    assert!(error.to_string().contains("sized") && error.to_string().contains("not connected"), "{error}");
    let mut dump = OscDump::start(&format!("osc.tcp://:{sized}"));
    eventually(|| async { send(&host, &scene("sized")).await.ok() }).await;
    assert_eq!(dump.next().await, shown);

    let mut dump = OscDump::start(&format!("osc.tcp://:{slip}"));
    eventually(|| async { send(&host, &scene("slip")).await.ok() }).await;
    assert_eq!(dump.next().await, shown);

    let everybody = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, wide)).unwrap();
    everybody.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    send(&host, &scene("wide")).await.unwrap();
    let mut packet = [0; 100];
    assert!(everybody.recv(&mut packet).unwrap() > 0 && packet.starts_with(b"/scene\0"));

    let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group)).unwrap();
    member.join_multicast_v4(&"239.192.7.7".parse().unwrap(), &Ipv4Addr::LOCALHOST).unwrap();
    member.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(send(&host, &scene("group")).await.unwrap(), format!("239.192.7.7:{group}"));
    let mut packet = [0; 100];
    assert!(member.recv(&mut packet).unwrap() > 0 && packet.starts_with(b"/scene\0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_sent_says_why() {
    let host = OscHost::start("osc", "[osc.targets]\nlights = \"127.0.0.1:9\"\ndesk = \"127.0.0.1:10\"\n").await;
    let fault = async |out: Out| match send(&host, &out).await.unwrap_err() {
        BusError::Fault(fault) => fault,
        error => panic!("{error}"),
    };
    let unknown = fault(out("lamps", "/x", vec![])).await;
    assert_eq!(unknown.code, FaultCode::NotFound);
    assert!(unknown.message.contains("\"lamps\"; there are desk, lights"), "{unknown}");
    assert!(fault(out("desk", "x", vec![])).await.message.contains("does not begin with /"));
    assert!(fault(out("desk", "/x", vec![Arg::Text("a\0b".to_owned())])).await.message.contains("NUL"));
    let at = Some("in a minute".to_owned());
    assert!(fault(Out { at, ..out("desk", "/x", vec![]) }).await.message.contains("RFC 3339"));
    let at = Some("2999-01-01T00:00:00Z".to_owned());
    assert!(fault(Out { at, ..out("desk", "/x", vec![]) }).await.message.contains("osc.ahead_ms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_with_the_target_is_asked_and_the_stock_cli_just_works() {
    let Some(nats) = Nats::start().await else { return };
    let [lights, desk] = [free_port(), free_port()];
    let mut shown = OscDump::start(&lights.to_string());
    let set = |name: &str, port: u16| format!("[osc.targets]\n{name} = \"127.0.0.1:{port}\"\n");
    let one = OscHost::with(HostSpec::new("stage", "osc").on(&nats.url()), &set("lights", lights), &[]).await;
    // This one sends on what it hears, to a target that another host has.
    let on = "[[osc.on]]\naddress = \"/go\"\ndo = { osc = { target = \"lights\", address = \"/from/booth\" } }\n";
    let two = HostSpec::new("booth", "osc").on(&nats.url());
    let two = OscHost::with(two, &(set("desk", desk) + on), &[]).await;
    let surface = two.surface();
    let line = async {
        loop {
            surface.send("/go", &[]);
            tokio::select! {
                line = shown.next() => return line,
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
            }
        }
    };
    assert_eq!(within(line).await, "/from/booth ");
    let mut shown = OscDump::start(&desk.to_string());
    if let Some(cli) = program("nats") {
        let body = r#"{"target":"desk","address":"/scene","args":[3,0.5,"red",true]}"#;
        let line = async {
            loop {
                let said = nats.run_cli(&cli, &["req", "osc.out.m.desk", body], b"").await;
                assert!(said.contains("booth"), "{said}");
                tokio::select! {
                    line = shown.next() => return line,
                    () = tokio::time::sleep(Duration::from_millis(300)) => {}
                }
            }
        };
        assert_eq!(within(line).await, "/scene ifsT 3 0.500000 \"red\" #T");
    }
    drop(one);
}

/// A run of the program that must work; gives what it prints.
fn run(host: &OscHost, arguments: &[&str]) -> String {
    let output = host.host.cli(arguments).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{errors}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sends_and_shows() {
    let lights = free_port();
    let host = OscHost::start("osc", &format!("[osc.targets]\nlights = \"127.0.0.1:{lights}\"\n")).await;
    let surface = Surface::bound(lights, host.at);
    let said = run(&host, &["osc", "send", "lights", "/scene", "3", "0.5", "red", "true", "-1", "{\"int64\":5}"]);
    assert_eq!(said.trim(), format!("sent to 127.0.0.1:{lights} by stage"));
    let args =
        [OscType::Int(3), OscType::Float(0.5), text("red"), OscType::Bool(true), OscType::Int(-1), OscType::Long(5)];
    assert_eq!(surface.until("/scene"), args);
    run(&host, &["osc", "send", &format!("127.0.0.1:{lights}"), "/straight"]);
    assert_eq!(surface.until("/straight"), []);
    for (arguments, code, words) in [
        (["osc", "send", "lamps", "/x"], 3, "lights"),
        (["osc", "send", "lights", "x"], 1, "does not begin with /"),
        (["osc", "send", "127.0.0.1:none", "/x"], 1, "HOST:PORT"),
    ] {
        let output = host.host.cli(&arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && errors.contains(words), "{:?} {errors}", output.status);
    }
    // Shown as it comes; the subscription stands once the first is shown.
    let mut monitor = host.host.cli(&["osc", "monitor"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (lines, shown) = std::sync::mpsc::channel();
    let stdout = std::io::BufReader::new(monitor.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(stdout).map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let line = loop {
        surface.send("/desk/fader", &[OscType::Float(0.75), text("a b")]);
        if let Ok(line) = shown.recv_timeout(Duration::from_millis(200)) {
            break line;
        }
    };
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    assert!(line.ends_with(&format!("  stage  127.0.0.1:{lights}  /desk/fader 0.75 \"a b\"")), "{line}");
}
