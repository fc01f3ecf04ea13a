use proptest::prelude::*;

use super::*;

/// 1 sample a ms, so that sizes read as ms.
fn settings() -> SegmentSettings {
    SegmentSettings {
        rate_hz: 1000,
        pre_roll_ms: 30,
        start_ms: 20,
        end_silence_ms: 50,
        keep_silence_ms: 20,
        max_ms: 400,
        no_speech_ms: 100,
        ..SegmentSettings::default()
    }
}

/// A stream whose samples are their own numbers.
struct Stream {
    segmenter: Segmenter,
    events: Vec<SegmentEvent>,
}

impl Stream {
    fn new() -> Self {
        Self { segmenter: Segmenter::new(&settings()).unwrap(), events: Vec::new() }
    }

    fn push(&mut self, ms: usize, speech: f32) {
        let start = self.segmenter.position();
        let frame: Vec<f32> = (0..ms).map(|n| (start + n as u64) as f32).collect();
        self.events.extend(self.segmenter.push(&frame, speech));
    }

    fn push_in_frames(&mut self, ms: usize, speech: f32) {
        for _ in 0..ms / 10 {
            self.push(10, speech);
        }
    }

    fn segments(self) -> Vec<Segment> {
        self.events
            .into_iter()
            .filter_map(|event| if let SegmentEvent::Ended(segment) = event { Some(segment) } else { None })
            .collect()
    }
}

fn range(segment: &Segment) -> std::ops::Range<u64> {
    segment.start_sample..segment.start_sample + segment.samples.len() as u64
}

#[test]
fn an_utterance_has_its_pre_roll_and_loses_most_of_its_silence() {
    let mut stream = Stream::new();
    stream.push_in_frames(100, 0.0);
    stream.push_in_frames(200, 0.9);
    assert_eq!(stream.segmenter.speech_ms(), 200);
    assert_eq!(stream.segmenter.current().unwrap().len(), 230);
    stream.push_in_frames(100, 0.0);
    assert_eq!(stream.segmenter.current(), None);
    let segment = stream.segments().pop().unwrap();
    assert_eq!(range(&segment), 70..320);
    assert_eq!(segment.samples.first(), Some(&70.0));
    assert_eq!((segment.speech_end, segment.speech_ms, segment.reason), (230, 200, EndReason::Silence));
}

#[test]
fn a_click_starts_nothing() {
    let mut stream = Stream::new();
    for _ in 0..50 {
        stream.push(10, 0.9);
        stream.push(10, 0.1);
    }
    assert_eq!(stream.events, []);
}

#[test]
fn speech_stays_speech_between_the_thresholds() {
    let mut stream = Stream::new();
    stream.push_in_frames(100, 0.4);
    assert_eq!(stream.events, []);
    stream.push_in_frames(20, 0.6);
    stream.push_in_frames(100, 0.4);
    assert_eq!(stream.events, [SegmentEvent::Started]);
    assert_eq!(stream.segmenter.speech_ms(), 120);
    assert_eq!(stream.segmenter.silence_ms(), 0);
}

#[test]
fn a_pause_shorter_than_the_limit_joins() {
    let mut stream = Stream::new();
    stream.push_in_frames(100, 0.9);
    stream.push_in_frames(40, 0.0);
    stream.push_in_frames(100, 0.9);
    stream.push_in_frames(50, 0.0);
    let segments = stream.segments();
    assert!(segments.iter().map(range).eq(std::iter::once(0..260)), "{segments:?}");
}

#[test]
fn speech_without_end_is_cut_and_goes_on() {
    let mut stream = Stream::new();
    stream.push_in_frames(1000, 0.9);
    stream.push_in_frames(100, 0.0);
    let segments = stream.segments();
    assert_eq!(segments.iter().map(range).collect::<Vec<_>>(), [0..400, 400..800, 800..1020]);
    assert_eq!(segments.iter().map(|segment| segment.speech_ms).sum::<u32>(), 1000);
}

#[test]
fn push_to_talk_starts_at_once_and_only_letting_go_ends_it() {
    let mut stream = Stream::new();
    stream.push_in_frames(100, 0.0);
    assert_eq!(stream.segmenter.force_start(true), Some(SegmentEvent::Started));
    assert_eq!(stream.segmenter.force_start(true), None);
    stream.push_in_frames(200, 0.0);
    assert_eq!(stream.events, []);
    let Some(SegmentEvent::Ended(segment)) = stream.segmenter.force_end() else { panic!("nothing ended") };
    assert_eq!((segment.reason, segment.speech_ms, segment.speech_end), (EndReason::Forced, 0, 0));
    assert_eq!(range(&segment), 70..120);
    assert_eq!(stream.segmenter.force_end(), None);
}

#[test]
fn started_by_hand_and_not_held_it_waits_for_speech_but_not_for_ever() {
    let mut stream = Stream::new();
    stream.segmenter.force_start(false);
    stream.push_in_frames(90, 0.0);
    assert_eq!(stream.events, []);
    stream.push(10, 0.0);
    let segment = stream.segments().pop().unwrap();
    assert_eq!((segment.reason, segment.speech_ms), (EndReason::Silence, 0));
}

#[test]
fn what_was_cancelled_does_not_come_back() {
    let mut stream = Stream::new();
    stream.push_in_frames(100, 0.9);
    stream.segmenter.cancel();
    assert_eq!(stream.segmenter.current(), None);
    stream.push_in_frames(100, 0.9);
    stream.push_in_frames(100, 0.0);
    let segments = stream.segments();
    assert!(segments.iter().map(range).eq(std::iter::once(100..220)), "{segments:?}");
}

#[test]
fn settings_without_sense_are_refused() {
    let refused = |change: fn(&mut SegmentSettings)| {
        let mut settings = settings();
        change(&mut settings);
        Segmenter::new(&settings).unwrap_err()
    };
    assert_eq!(refused(|s| s.max_ms = 50), SegmentError::TooShort { max_ms: 50, least_ms: 50 });
    assert_eq!(refused(|s| s.rate_hz = 0), SegmentError::Rate);
    assert!(matches!(refused(|s| s.off = 0.6), SegmentError::Thresholds { .. }));
    assert!(matches!(refused(|s| s.on = f32::NAN), SegmentError::Thresholds { .. }));
}

#[test]
fn what_was_said_before_is_no_more_than_a_pre_roll() {
    let mut stream = Stream::new();
    stream.push_in_frames(300, 0.9);
    stream.segmenter.trim();
    assert_eq!(stream.segmenter.current(), None);
    stream.events.extend(stream.segmenter.force_start(true));
    stream.push_in_frames(100, 0.9);
    stream.events.extend(stream.segmenter.force_end());
    let segment = stream.segments().pop().unwrap();
    assert_eq!((range(&segment), segment.speech_ms), (270..400, 100));
}

/// The samples of segments that follow each other without a gap.
fn whole(segments: &[Segment]) -> std::ops::Range<u64> {
    for pair in segments.windows(2) {
        assert_eq!(range(&pair[0]).end, pair[1].start_sample);
    }
    segments[0].start_sample..range(&segments[segments.len() - 1]).end
}

#[test]
fn what_is_held_for_too_long_goes_on_in_the_next_segment() {
    let mut stream = Stream::new();
    stream.push_in_frames(100, 0.0);
    stream.events.extend(stream.segmenter.force_start(true));
    stream.push_in_frames(500, 0.9);
    // Silence does not end it, nor does it between two parts.
    stream.push_in_frames(600, 0.0);
    assert!(stream.segmenter.current().is_some());
    stream.events.extend(stream.segmenter.force_end());
    let segments = stream.segments();
    let reasons: Vec<EndReason> = segments.iter().map(|segment| segment.reason).collect();
    let (last, parts) = reasons.split_last().unwrap();
    assert_eq!(*last, EndReason::Forced);
    assert!(parts.len() >= 2 && parts.iter().all(|part| *part == EndReason::Part), "{reasons:?}");
    assert_eq!(whole(&segments).start, 70);
    assert_eq!(segments.iter().map(|segment| segment.speech_ms).sum::<u32>(), 500);
}

proptest! {
    #[test]
    fn of_what_is_held_nothing_is_lost(
        frames in prop::collection::vec((1_usize..60, prop::sample::select(vec![0.0_f32, 0.4, 0.9])), 1..200)
    ) {
        let mut stream = Stream::new();
        stream.events.extend(stream.segmenter.force_start(true));
        for &(ms, probability) in &frames {
            stream.push(ms, probability);
            prop_assert!(stream.segmenter.current().is_some_and(|samples| samples.len() < 400));
        }
        stream.events.extend(stream.segmenter.force_end());
        let end = stream.segmenter.position();
        let segments = stream.segments();
        let kept = whole(&segments);
        // Of the silence at its end it keeps some.
        let silence: usize = frames.iter().rev().take_while(|(_, speech)| *speech < 0.5).map(|(ms, _)| ms).sum();
        prop_assert!(kept.start == 0 && kept.end + (silence as u64) >= end, "{kept:?} of {end}");
        let (mut position, mut voiced, mut speech) = (0, false, vec![false; end as usize]);
        for &(ms, probability) in &frames {
            voiced = if voiced { probability >= 0.35 } else { probability >= 0.5 };
            speech[position..position + ms].fill(voiced);
            position += ms;
        }
        for segment in &segments {
            prop_assert!(segment.speech_end <= segment.samples.len() && segment.samples.len() <= 400);
            let heard = speech[range(segment).start as usize..range(segment).end as usize].iter();
            prop_assert_eq!(segment.speech_ms as usize, heard.filter(|voiced| **voiced).count());
            prop_assert!(segment.samples.iter().zip(range(segment)).all(|(&sample, number)| sample == number as f32));
        }
    }

    #[test]
    fn whatever_comes_no_speech_is_lost_and_nothing_overlaps(
        frames in prop::collection::vec((1_usize..60, prop::sample::select(vec![0.0_f32, 0.4, 0.9])), 1..200)
    ) {
        let settings = settings();
        let mut stream = Stream::new();
        // The stretches in which speech lasted long enough to count, by the definition of the thresholds.
        let (mut speech, mut run_start, mut voiced) = (Vec::new(), 0, false);
        for &(ms, probability) in &frames {
            let start = stream.segmenter.position();
            let now = if voiced { probability >= settings.off } else { probability >= settings.on };
            if now && !voiced {
                run_start = start;
            }
            voiced = now;
            if voiced && start + ms as u64 - run_start >= u64::from(settings.start_ms) {
                speech.push(run_start..start + ms as u64);
            }
            stream.push(ms, probability);
            prop_assert!(stream.segmenter.current().is_none_or(|samples| samples.len() < 400));
        }
        stream.push(1000, 0.0);
        let segments = stream.segments();
        let mut end = 0;
        for segment in &segments {
            let range = range(segment);
            prop_assert!(range.start >= end, "overlap");
            end = range.end;
            prop_assert!(segment.samples.len() <= 400);
            prop_assert!(segment.speech_end <= segment.samples.len());
            // A stretch of the stream, unchanged.
            prop_assert!(segment.samples.iter().zip(range).all(|(&sample, number)| sample == number as f32));
        }
        for run in &speech {
            for sample in run.clone() {
                let kept = segments.iter().any(|segment| range(segment).contains(&sample));
                let rest_of_cut = segments.iter().any(|segment| {
                    let cut = range(segment).end;
                    segment.reason == EndReason::MaxLength && cut <= sample && run.end < cut + 20
                });
                prop_assert!(kept || rest_of_cut, "sample {} of speech {:?} is lost", sample, run);
            }
        }
        if speech.is_empty() {
            prop_assert!(segments.is_empty());
        }
    }

    #[test]
    fn the_pre_roll_is_there(silence in 0_usize..100, speech in 2_usize..20) {
        let mut stream = Stream::new();
        stream.push(silence, 0.0);
        stream.push_in_frames(speech * 10, 0.9);
        stream.push_in_frames(60, 0.0);
        let segments = stream.segments();
        prop_assert_eq!(segments.len(), 1);
        prop_assert_eq!(segments[0].start_sample, silence.saturating_sub(30) as u64);
        prop_assert_eq!(segments[0].speech_ms as usize, speech * 10);
    }
}
