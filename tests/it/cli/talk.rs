//! `ask` and `say`.

use sidetone::audio::Clip;

use super::host::Site;
use crate::support::studio::{assert_heard, words};

#[test]
fn a_command_is_answered_by_itself() {
    let Some(site) = Site::with("agent") else { return };
    let answer = site.run(&["ask", "what", "time", "is", "it"]).text();
    assert!(answer.starts_with("It is ") && answer.ends_with(".\n"), "{answer:?}");
    let events = site.run(&["ask", "--json", "say good evening"]).text();
    let events: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|event| event.to_string().contains("\"say\"")), "{events:?}");
    assert!(
        events.iter().any(|event| event["text"].as_str().is_some_and(|text| text.contains("good evening"))),
        "{events:?}"
    );
}

#[test]
fn a_question_is_answered_by_the_model_and_goes_on_in_its_session() {
    let Some(site) = Site::with("llm,agent") else { return };
    let answer = site.run(&["ask", "--session", "cli-talk", "What is the capital of France?"]).text();
    assert!(answer.trim().len() > 3 && answer.ends_with('\n'), "{answer:?}");
    let again = site.run(&["ask", "--session", "cli-talk", "And of Italy?"]).text();
    assert!(again.trim().len() > 3, "{again:?}");
}

#[test]
fn speech_goes_into_a_file_or_a_pipe() {
    let Some(site) = Site::with("stt,tts") else { return };
    let file = site.file("said.wav");
    let said = site.run(&["say", "Good", "evening", "everybody.", "-o", file.to_str().unwrap()]).text();
    assert!(said.contains("said.wav"), "{said}");
    let clip = Clip::decode(&std::fs::read(&file).unwrap()).unwrap();
    assert!((500..5_000).contains(&clip.duration_ms()), "{} ms", clip.duration_ms());
    let heard = site.run(&["transcribe", file.to_str().unwrap()]).text().to_lowercase();
    assert_heard("Good evening everybody.", &words(&heard));

    let piped = site.run(&["say", "Hello.", "-o", "-"]);
    assert_eq!(piped.code, Some(0), "{}", piped.stderr);
    assert!(Clip::decode(&piped.stdout).unwrap().duration_ms() > 200);
}

#[test]
fn a_long_speech_is_heard_to_its_end() {
    let Some(site) = Site::with("stt,tts") else { return };
    let text = "The sky is blue because of a process called scattering. When sunlight reaches our planet, it is just a tiny \
                fraction of it, but it is enough to make it appear blue. This is because of the way light interacts with \
                matter, specifically with the color of the atmosphere. The blue color is a result of the way light is \
                absorbed and scattered by the molecules of air, but the human eye is designed to see the color of the \
                atmosphere, which is why we can see the sky as blue.";
    let file = site.file("speech.wav");
    site.run(&["say", text, "-o", file.to_str().unwrap()]).text();
    let heard = site.run(&["transcribe", file.to_str().unwrap()]).text().to_lowercase();
    let heard = words(&heard);
    assert_heard(text, &heard);
    let (begin, end) = (&heard[..heard.len().min(8)], &heard[heard.len().saturating_sub(10)..]);
    assert_heard("The sky is blue because", begin);
    assert_heard("we can see the sky as blue", end);
}

#[test]
fn what_nobody_can_speak_is_refused_with_what_there_is() {
    let Some(site) = Site::with("tts") else { return };
    let error = site.run(&["say", "Hello.", "-o", "-", "--voice", "nobody"]).error(3);
    assert!(error.contains("nobody") && error.contains("en_US-joe-medium"), "{error}");
    let error = site.run(&["say", "Hello.", "-o", "-", "--speed", "9"]).error(1);
    assert!(error.contains("0.5 to 2.0"), "{error}");
    let error = site.run(&["say", "Hello.", "-o", "/no/such/folder/x.wav"]).error(1);
    assert!(error.contains("/no/such/folder/x.wav"), "{error}");
}
