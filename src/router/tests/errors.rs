//! Nobody: what is wanted, and what is there instead.

use std::time::Duration;

use super::world::rng;
use crate::router::*;

fn host(name: &str, voices: &[&str], languages: &[&str], privacy: Privacy) -> Host {
    let texts = |of: &[&str]| of.iter().map(|text| (*text).to_owned()).collect();
    let load = Load { slots: 1, ..Load::default() };
    let offer = Offer {
        capability: "tts".to_owned(),
        voices: texts(voices),
        languages: texts(languages),
        privacy,
        load,
        ..Offer::default()
    };
    Host { name: name.to_owned(), offers: vec![offer], ..Host::default() }
}

fn need() -> Need {
    Need { capability: "tts".to_owned(), voice: "amy".to_owned(), ..Need::default() }
}

fn error(hosts: Vec<Host>, policy: &str, need: &Need) -> String {
    let view: View = hosts.into_iter().collect();
    let policy: Policy = toml::from_str(policy).unwrap();
    let router = Router { here: "desk", view: &view, policy: &policy, health: &Health::new() };
    router.decide(need, Duration::ZERO, &mut rng(0)).unwrap_err().to_string()
}

#[test]
fn what_is_offered_instead() {
    let hosts = vec![host("rack", &["joe"], &["en"], Privacy::Host), host("den", &["eva"], &["de"], Privacy::Host)];
    assert_eq!(error(Vec::new(), "", &need()), "nobody offers tts voice amy; offered: nothing, no other host is known");
    assert_eq!(error(hosts.clone(), "", &need()), "nobody offers tts voice amy; offered: eva, joe");
    let stt = Need { capability: "stt".to_owned(), language: "en".to_owned(), ..Need::default() };
    assert_eq!(error(hosts.clone(), "", &stt), "nobody offers stt language en; offered: tts");
    let mixed = Need { voice: "joe".to_owned(), language: "fr".to_owned(), ..need() };
    let text = "nobody offers tts voice joe, language fr; offered: languages en; voices eva";
    assert_eq!(error(hosts, "", &mixed), text);
}

#[test]
fn privacy_says_where_it_is() {
    let hosts = vec![host("gate", &["amy"], &[], Privacy::Any)];
    let text = "tts voice amy is offered only in the cloud (gate), and privacy is lan: allow more, or have it offered \
                by a host of the LAN";
    assert_eq!(error(hosts, "", &Need { privacy: Privacy::Lan, ..need() }), text);
    let hosts = vec![host("rack", &["amy"], &[], Privacy::Host)];
    let text = "tts voice amy is offered only by way of other hosts (rack), and privacy is host: allow more, or have \
                it offered on this host";
    assert_eq!(error(hosts, "", &Need { privacy: Privacy::Host, ..need() }), text);
}

#[test]
fn the_policy_is_named() {
    let hosts = || vec![host("rack", &["amy"], &[], Privacy::Host), host("den", &["joe"], &[], Privacy::Host)];
    let text = "tts voice amy is offered by rack, which the policy denies: see `deny` in [route.tts]";
    assert_eq!(error(hosts(), "deny = ['rack']", &need()), text);
    let text = "tts voice amy is offered by rack, and the policy asks only local, cloud: name more places in `prefer` \
                in [route.tts]";
    assert_eq!(error(hosts(), "prefer = ['local', 'cloud']", &need()), text);
}

#[test]
fn what_may_pass_says_so() {
    let mut full = host("rack", &["amy"], &[], Privacy::Host);
    full.offers[0].load.in_flight = 1;
    let text = "tts voice amy is offered by rack, where no slot is idle: batch work waits for one";
    assert_eq!(error(vec![full], "", &Need { latency: Latency::Batch, ..need() }), text);
    let draining = Host { draining: true, ..host("rack", &["amy"], &[], Privacy::Host) };
    assert!(error(vec![draining], "", &need()).contains("about to stop"));

    let view: View = [host("rack", &["amy"], &[], Privacy::Host)].into_iter().collect();
    let mut health = Health::new();
    let ticket = health.admit(&view, "tts", &OfferId::new("rack", ""), Duration::ZERO).unwrap();
    health.settle(&view, ticket, Outcome::Failed, Duration::ZERO);
    let router = Router { here: "desk", view: &view, policy: &Policy::default(), health: &health };
    let nobody = router.decide(&need(), Duration::from_millis(400), &mut rng(0)).unwrap_err();
    let text = "tts voice amy is offered by rack, which failed just now: the next try may go in 600 ms";
    assert_eq!(nobody.to_string(), text);
    assert!(nobody.may_pass());
    let lines = router.explain(&need(), Duration::from_millis(400), &mut rng(0));
    assert_eq!(lines[0].to_string(), "rack: failed once, left alone for 600 ms yet");
    let again = router.decide(&need(), Duration::from_secs(1), &mut rng(0)).unwrap();
    assert_eq!(again[0].reason.to_string(), "lan, 0 of 1 busy, tried again after a failure");
}
