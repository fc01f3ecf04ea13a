//! What is asked for is heard, at its time.

use futures::StreamExt as _;
use sidetone::bus::message::midi::In;
use sidetone::bus::subject;

use super::{send, spec, state};
use crate::support::host::PATIENCE;
use crate::support::jack::{JackServer, available};
use crate::support::midi::Device;
use crate::support::nats::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_heard_and_what_is_played_is_told() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let host = spec(&jack, "midi", "").start().await;
    // It comes after the host.
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;

    let sent = send(&host, r#"{"chord":"G7","ms":150,"port":"pad","channel":2,"velocity":90}"#).await.unwrap();
    assert_eq!((sent.messages, sent.notes.join(" ").as_str()), (4, "G4 B4 D5 F5"));
    let all = pad.hears(8).await;
    let keys = |status: u8| all.iter().filter(|bytes| bytes[0] == status).map(|bytes| bytes[1]).collect::<Vec<_>>();
    assert_eq!((keys(0x91), keys(0x81)), (vec![67, 71, 74, 77], vec![67, 71, 74, 77]));
    let frames: Vec<u64> = pad.heard_at().iter().map(|(frame, _)| *frame).collect();
    let long = frames[4] - frames[0];
    assert!(long >= 150 * 48 - 512 && frames[4..].iter().all(|frame| *frame == frames[4]), "{frames:?}");
    pad.forget();

    for (json, bytes) in [
        (r#"{"cc":74,"value":100,"port":"pad"}"#, vec![vec![0xb0, 74, 100]]),
        (r#"{"cc14":1,"value":8193,"port":"pad"}"#, vec![vec![0xb0, 1, 64], vec![0xb0, 33, 1]]),
        (r#"{"program":5,"port":"pad","channel":16}"#, vec![vec![0xcf, 5]]),
        (r#"{"bend":0,"port":"pad"}"#, vec![vec![0xe0, 0, 64]]),
        (r#"{"sysex":"7E 7F 06 01","port":"pad"}"#, vec![vec![0xf0, 0x7e, 0x7f, 6, 1, 0xf7]]),
        (r#"{"raw":[241,5],"port":"pad"}"#, vec![vec![0xf1, 5]]),
    ] {
        send(&host, json).await.unwrap();
        assert_eq!(pad.hears(bytes.len()).await, bytes, "{json}");
        pad.forget();
    }
    let long = format!(r#"{{"sysex":"{}","port":"pad"}}"#, "01 ".repeat(12_000));
    send(&host, &long).await.unwrap();
    assert_eq!(pad.hears(1).await[0].len(), 12_002);

    let mut told =
        host.bus().subscribe::<In>(&subject::pattern::filter(subject::pattern::MIDI_IN, None)).await.unwrap();
    // A split system exclusive, with a clock in it; running status does not exist in JACK.
    pad.play(&[&[0x93, 61, 70], &[0xf8], &[0xf0, 1, 2], &[0xf8], &[3, 0xf7], &[0xe3, 0, 0], &[0xb3, 1, 9]]);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let (subject, told) = tokio::time::timeout(PATIENCE, told.next()).await.unwrap().unwrap();
        seen.push((subject, told.unwrap()));
    }
    let subjects: Vec<&str> = seen.iter().map(|(subject, _)| subject.as_str()).collect();
    assert_eq!(subjects, ["note", "sysex", "bend", "cc"].map(|kind| format!("midi.in.stage.pad.{kind}")));
    let note = &seen[0].1;
    assert_eq!((note.channel, note.note, note.name.as_deref(), note.on), (Some(4), Some(61), Some("C#4"), Some(true)));
    assert_eq!(seen[1].1.bytes, "F0 01 02 03 F7");
    assert_eq!(seen[2].1.value, Some(-8192));

    send(&host, r#"{"note":"C4","hold":true,"port":"pad","by":"me"}"#).await.unwrap();
    let now = state(&host).await;
    let port = now.ports.iter().find(|port| port.name == "pad").unwrap();
    assert!(now.up && now.driver == "jack" && now.lost == 0, "{now:?}");
    assert_eq!(
        (port.inputs.as_slice(), port.outputs.as_slice()),
        (&["pad:keys".to_owned()][..], &["pad:synth".to_owned()][..])
    );
    assert_eq!(
        (port.held[0].name.as_str(), port.sounding[0].name.as_str(), port.sounding[0].by.as_str()),
        ("C#4", "C4", "me")
    );
    assert_eq!(port.controllers_in[0].value, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_that_goes_out_is_even() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 512);
    let host = spec(&jack, "midi", "").start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    send(&host, r#"{"transport":"start","bpm":150,"port":"pad"}"#).await.unwrap();
    // Two bars of 4/4.
    let ticks = pad.hears(1 + 2 * 96).await;
    send(&host, r#"{"transport":"stop","port":"pad"}"#).await.unwrap();
    assert_eq!(ticks[0], [0xfa]);
    assert!(ticks[1..193].iter().all(|bytes| *bytes == [0xf8]));
    let frames: Vec<f64> = pad.heard_at()[1..193].iter().map(|(frame, _)| *frame as f64).collect();
    let step = 48_000.0 * 60.0 / 150.0 / 24.0;
    // Each tick against the line through the first: frames, not when the test got to see them.
    let off: Vec<f64> = frames.iter().enumerate().map(|(n, frame)| frame - frames[0] - n as f64 * step).collect();
    let middle = {
        let mut sorted = off.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let even = off.iter().filter(|off| (*off - middle).abs() <= 512.0).count();
    eprintln!("clock: {even} of {} ticks within a period of 512 frames", off.len());
    // A machine that is busy with something else makes JACK itself miss periods: that is seen by a few ticks.
    assert!(even * 10 >= off.len() * 9, "{off:?}");
    pad.hears_this(&[0xfc]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_wait_for_a_clock_that_comes_in_goes_out_on_its_bar() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let host = spec(&jack, "midi", "").start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    // 125 BPM: a tick each 960 frames, which is 3.75 periods of 256. The song starts with the first tick.
    let bars = 6;
    let mut periods: Vec<Vec<(u32, Vec<u8>)>> = vec![Vec::new(); bars * 4 * 24 * 960 / 256 + 1];
    for tick in 0..bars * 4 * 24 {
        let frame = tick * 960;
        periods[frame / 256].push(((frame % 256) as u32, vec![0xf8]));
    }
    periods[0].insert(0, (0, vec![0xfa]));
    let state_now = |host| async move { state(host).await.clock };
    pad.play_in_periods(periods);
    let clock = eventually(|| async {
        let clock = state_now(&host).await;
        (clock.source == "pad" && clock.running && clock.bar >= 2).then_some(clock)
    })
    .await;
    assert!((clock.bpm - 125.0).abs() < 2.0, "{clock:?}");
    let sent = send(&host, r#"{"note":60,"on":"bar","ms":50,"port":"pad"}"#).await.unwrap();
    assert!(sent.messages == 0 && sent.in_ms.is_some_and(|ms| ms <= 2_100), "{sent:?}");
    pad.hears_this(&[0x80, 60, 64]).await;
    let at = pad.heard_at();
    let on = at.iter().find(|(_, bytes)| bytes[0] == 0x90).unwrap().0;
    let off = at.iter().find(|(_, bytes)| bytes[0] == 0x80).unwrap().0;
    let missed = pad.xruns();
    assert!((off - on).abs_diff(2_400) <= 256 * (1 + missed), "{on} {off}, JACK missed {missed} periods");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cable_passes_without_loss_a_period_later() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let table = "[[midi.on]]\nany = true\nport = \"pad\"\ndo = { midi = { raw = \"{bytes}\", port = \"pad\" } }\n";
    let host = spec(&jack, "midi", table).start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    // Some 1,000 messages of three bytes a second: 16 in each three periods, for three seconds.
    let mut sent = Vec::new();
    let periods: Vec<Vec<(u32, Vec<u8>)>> = (0..562_u32)
        .map(|period| {
            (0..16_u32)
                .filter(|n| n % 3 == period % 3)
                .map(|n| {
                    let at = period * 16 + n;
                    let bytes = vec![0xb0 | (at % 16) as u8, (at / 7 % 96) as u8, (at % 128) as u8];
                    sent.push(bytes.clone());
                    (n * 15, bytes)
                })
                .collect()
        })
        .collect();
    // In a period that the server itself misses, a client may get the messages of the one before once more: then it says nothing
    // of the host, and all is played again.
    let mut heard = Vec::new();
    for _ in 0..5 {
        pad.forget();
        let missed = pad.xruns();
        pad.play_in_periods(periods.clone());
        heard = pad.hears(sent.len()).await;
        if pad.xruns() == missed {
            break;
        }
    }
    assert_eq!(heard.len(), sent.len());
    assert!(heard == sent, "the order or the bytes have changed");
    let now = state(&host).await;
    assert_eq!((now.lost, now.skipped, now.untold), (0, 0, 0), "{now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sends_and_learns() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let host = spec(&jack, "midi", "").start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    let run = |arguments: &[&str]| {
        let mut command = host.cli(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        async move {
            let output = output.await.unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
        }
    };
    let (code, out, _) = run(&["midi", "send", "a", "minor", "hold=true", "port=pad"]).await;
    assert_eq!((code, out.as_str()), (0, "A4 C5 E5\n"));
    pad.hears_this(&[0x90, 69, 100]).await;
    let (_, out, _) = run(&["midi", "ports"]).await;
    assert!(out.contains("pad:keys") && out.contains("A4 C5 E5") && out.contains("120 BPM by its own clock"), "{out}");
    let (_, out, _) = run(&["midi", "ports", "--json"]).await;
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all[0]["ports"][1]["sounding"][2]["name"], "E5");
    let (_, out, _) = run(&["midi", "panic"]).await;
    assert_eq!(out, "stage: 3 notes ended\n");
    pad.hears_this(&[0x80, 69, 64]).await;
    let (code, _, why) = run(&["midi", "send", "port=pad", "Xyz"]).await;
    assert!(code == 1 && why.contains("`Xyz` is no chord"), "{code} {why}");
    let (code, _, why) = run(&["midi", "send", "C4", "port=synth"]).await;
    assert!(code == 3 && why.contains("synth"), "{code} {why}");

    let file = host.spec.home().join("learned.toml");
    let learned = run(&["midi", "learn", "--do", "stop", "--write", file.to_str().unwrap()]);
    let learned = tokio::spawn(learned);
    // It is pressed until somebody looks, each time long enough after the last that it counts as one by itself (700 ms).
    let until = std::time::Instant::now() + PATIENCE;
    while !learned.is_finished() {
        assert!(std::time::Instant::now() < until, "midi learn does not end");
        pad.play(&[&[0xb2, 80, 127], &[0xb2, 80, 0]]);
        tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    }
    let (code, out, why) = learned.await.unwrap();
    assert!(code == 0 && out.contains("has it now"), "{out} {why}");
    let text = std::fs::read_to_string(&file).unwrap();
    for line in ["[[midi.on]]", "cc = 80", "port = \"pad\"", "channel = 3", "when = \"press\"", "do = \"stop\""] {
        assert!(text.contains(line), "{text}");
    }
}
