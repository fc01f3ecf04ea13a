use proptest::prelude::*;

use super::*;
use crate::audio::{PcmFormat, pcm_to_mono, wav_bytes};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio");

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FOLDER}/{name}")).unwrap()
}

/// A WAV file whose `fmt ` chunk is `format`.
fn wav(format: &[u8], data: &[u8]) -> Vec<u8> {
    let size = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(size(4 + 8 + format.len() + 8 + data.len()));
    bytes.extend(b"WAVEfmt ");
    bytes.extend(size(format.len()));
    bytes.extend(format);
    bytes.extend(b"data");
    bytes.extend(size(data.len()));
    bytes.extend(data);
    bytes
}

/// The `fmt ` chunk for `tag` (1: integers, 3: floats), extensible if the tag says so (0xFFFE, then for integers).
fn fmt(tag: u16, channels: u16, rate_hz: u32, bits: u16) -> Vec<u8> {
    let align = channels * bits / 8;
    let mut bytes = Vec::new();
    bytes.extend(tag.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate_hz.to_le_bytes());
    bytes.extend((rate_hz * u32::from(align)).to_le_bytes());
    bytes.extend(align.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    if tag == 0xFFFE {
        bytes.extend(22_u16.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(((1_u32 << channels) - 1).to_le_bytes());
        bytes.extend([1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71]);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Clip {
    Clip::decode(bytes).unwrap()
}

#[test]
fn every_width_of_integers_and_floats_is_read() {
    let wanted = [0.0, 0.5, -0.5, -1.0];
    let eight: &[u8] = &[0x80, 0xC0, 0x40, 0x00];
    let sixteen: Vec<u8> = [0_i16, 0x4000, -0x4000, -0x8000].iter().flat_map(|s| s.to_le_bytes()).collect();
    let twentyfour: &[u8] = &[0, 0, 0, 0, 0, 0x40, 0, 0, 0xC0, 0, 0, 0x80];
    let thirtytwo: Vec<u8> =
        [0_i32, 0x4000_0000, -0x4000_0000, i32::MIN].iter().flat_map(|s| s.to_le_bytes()).collect();
    let float: Vec<u8> = wanted.iter().flat_map(|s: &f32| s.to_le_bytes()).collect();
    let double: Vec<u8> = wanted.iter().flat_map(|&s| f64::from(s).to_le_bytes()).collect();
    for (tag, bits, data) in [
        (1, 8, eight),
        (1, 16, &sixteen),
        (1, 24, twentyfour),
        (1, 32, &thirtytwo),
        (3, 32, &float),
        (3, 64, &double),
        (0xFFFE, 16, &sixteen),
        (0xFFFE, 24, twentyfour),
    ] {
        let clip = decode(&wav(&fmt(tag, 1, 96_000, bits), data));
        assert_eq!((clip.rate_hz, clip.channels, clip.truncated), (96_000, 1, false));
        assert_eq!(clip.samples, wanted, "format {tag}, {bits} bits");
    }
}

#[test]
fn channels_are_mixed_by_their_mean() {
    let frame: [i16; 8] = [8000, 0, 0, 0, -4000, 0, 0, 4000];
    let data: Vec<u8> = frame.iter().cycle().take(80).flat_map(|s| s.to_le_bytes()).collect();
    for tag in [1, 0xFFFE] {
        let clip = decode(&wav(&fmt(tag, 8, 48_000, 16), &data));
        assert_eq!((clip.channels, clip.samples.len()), (8, 10));
        assert!(clip.samples.iter().all(|&sample| (sample - 1000.0 / 32_768.0).abs() < 1e-6), "{:?}", clip.samples);
    }
}

#[test]
fn what_is_no_number_becomes_silence_and_clipped_audio_stays() {
    let data: Vec<u8> = [f32::NAN, f32::INFINITY, 3.0, -3.0].iter().flat_map(|s| s.to_le_bytes()).collect();
    assert_eq!(decode(&wav(&fmt(3, 1, 16_000, 32), &data)).samples, [0.0, 0.0, 3.0, -3.0]);
    let data: Vec<u8> = [i16::MAX; 100].iter().flat_map(|s| s.to_le_bytes()).collect();
    assert_eq!(decode(&wav(&fmt(1, 1, 16_000, 16), &data)).samples, [32_767.0 / 32_768.0; 100]);
}

#[test]
fn a_wav_that_was_written_to_a_pipe_is_read_to_its_end() {
    let good = wav_bytes(&[0.25; 5000], 16_000).unwrap();
    for (riff, data) in [(0, 0), (u32::MAX, u32::MAX), (0x7FFF_FFFF, 0x7FFF_FFFF), (36, 0), (0x8000_0024, 0x8000_0000)]
    {
        let mut bytes = good.clone();
        bytes[4..8].copy_from_slice(&u32::to_le_bytes(riff));
        bytes[40..44].copy_from_slice(&u32::to_le_bytes(data));
        let clip = decode(&bytes);
        assert_eq!((clip.samples.len(), clip.truncated), (5000, false), "lengths {riff:#x} and {data:#x}");
        assert!(clip.samples.iter().all(|&sample| sample == 0.25));
    }
    let mut large = good.clone();
    large[..4].copy_from_slice(b"RF64");
    large[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    large[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode(&large).samples.len(), 5000);
}

#[test]
fn what_is_there_of_a_file_that_was_cut_short_is_used() {
    let whole = wav_bytes(&[0.25; 5000], 16_000).unwrap();
    let clip = decode(&whole[..44 + 2 * 1234 + 1]);
    assert_eq!((clip.samples.len(), clip.truncated), (1234, true));

    let flac = fixture("jfk.flac");
    let whole = decode(&flac);
    let clip = decode(&flac[..flac.len() / 2]);
    assert!(clip.truncated && !whole.truncated);
    assert!(clip.samples.len() > whole.samples.len() / 3 && clip.samples.len() < whole.samples.len());
    assert_eq!(clip.samples[..], whole.samples[..clip.samples.len()]);

    for name in ["jfk-4s.ogg", "jfk-1s.mp3"] {
        let bytes = fixture(name);
        let (whole, half) = (decode(&bytes), decode(&bytes[..bytes.len() * 3 / 4]));
        assert!(half.samples.len() < whole.samples.len(), "{name}");
    }
}

#[test]
fn chunks_around_the_samples_are_passed_over() {
    let good = wav_bytes(&[0.25; 100], 16_000).unwrap();
    let mut bytes = good[..12].to_vec();
    bytes.extend(b"JUNK\x03\0\0\0abc\0");
    bytes.extend(&good[12..]);
    bytes.extend(b"LIST\x04\0\0\0INFO");
    assert_eq!(decode(&bytes).samples, [0.25; 100]);
}

#[test]
fn the_formats_agree() {
    let jfk = decode(&fixture("jfk.flac"));
    assert_eq!((jfk.rate_hz, jfk.channels, jfk.samples.len()), (16_000, 1, 176_000));
    assert_eq!(jfk.duration_ms(), 11_000);
    for (name, frames) in [("jfk-4s.ogg", 64_000), ("jfk-1s.mp3", 16_000)] {
        let clip = decode(&fixture(name));
        assert_eq!(clip.rate_hz, 16_000, "{name}");
        // An encoder may add a block at either end.
        assert!((frames..frames + 3000).contains(&clip.samples.len()), "{name}: {} samples", clip.samples.len());
        let level = |samples: &[f32]| (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt();
        let ratio = level(&clip.samples) / level(&jfk.samples[..frames]);
        assert!((0.8..1.1).contains(&ratio), "{name}: level times {ratio}");
    }
}

#[test]
fn what_can_not_be_read_says_why_and_what_to_do() {
    let refused = |bytes: &[u8]| Clip::decode(bytes).unwrap_err();
    assert_eq!(refused(b""), ClipError::Empty);
    let text = refused(b"{\"text\": \"hello\"}");
    assert!(matches!(&text, ClipError::Unknown { len: 17, .. }), "{text:?}");
    assert!(text.to_string().contains(r#"begin with "{\"text\": \"he""#), "{text}");
    assert!(matches!(refused(&[0; 5000]), ClipError::Unknown { .. }));
    assert_eq!(refused(&wav_bytes(&[], 16_000).unwrap()), ClipError::NoSamples { format: "WAV" });
    assert!(matches!(refused(b"RIFF"), ClipError::Damaged { format: "WAV", .. }));
    assert!(matches!(refused(&wav_bytes(&[0.0; 9], 16_000).unwrap()[..30]), ClipError::Damaged { .. }));
    assert!(matches!(refused(&fixture("jfk.flac")[..20]), ClipError::Damaged { format: "FLAC", .. }));
    let twelve = refused(&wav(&fmt(1, 1, 16_000, 12), &[0; 24]));
    assert!(twelve.to_string().contains("bits per sample"), "{twelve}");
    let no_rate = refused(&wav(&fmt(1, 1, 0, 16), &[0; 24]));
    assert!(matches!(&no_rate, ClipError::Damaged { .. }), "{no_rate:?}");
    let missing = ClipReader::open(Path::new("no/such.wav")).unwrap_err();
    assert!(missing.to_string().contains("no/such.wav"), "{missing}");
}

#[test]
fn two_hours_are_read_block_by_block_and_refused_as_a_clip() {
    let hours = 2 * 3600;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // A hole in the file reads as zeros and takes no room on the disk.
    let frames: u32 = hours * 16_000;
    let mut head = wav_bytes(&[], 16_000).unwrap();
    head[4..8].copy_from_slice(&(frames * 2 + 36).to_le_bytes());
    head[40..44].copy_from_slice(&(frames * 2).to_le_bytes());
    std::io::Write::write_all(&mut file, &head).unwrap();
    file.as_file().set_len(44 + u64::from(frames) * 2).unwrap();

    let mut reader = ClipReader::open(file.path()).unwrap();
    assert_eq!(reader.duration_ms(), Some(u64::from(hours) * 1000));
    let (mut total, mut largest) = (0, 0);
    for block in reader.by_ref() {
        let block = block.unwrap();
        total += block.len();
        largest = largest.max(block.len());
    }
    assert_eq!((total, reader.truncated()), (frames as usize, false));
    assert!(largest <= 4096, "a block of {largest} frames");

    assert_eq!(Clip::decode(&std::fs::read(file.path()).unwrap()), Err(ClipError::TooLong));
}

#[test]
fn a_stream_whose_length_nobody_knows_ends_where_it_ends() {
    for unknown in [0, u32::MAX] {
        let mut bytes = wav_bytes(&[0.5; 20_000], 16_000).unwrap();
        let whole = bytes.clone();
        bytes[40..44].copy_from_slice(&unknown.to_le_bytes());
        let mut reader = ClipReader::live(Cursor::new(bytes)).unwrap();
        assert_eq!(reader.duration_ms(), None);
        assert_eq!(reader.by_ref().map(|block| block.unwrap().len()).sum::<usize>(), 20_000);
        assert!(!reader.truncated());
        // One that says its length is missed where it is cut short.
        let mut reader = ClipReader::live(Cursor::new(whole[..20_000].to_vec())).unwrap();
        assert_eq!(reader.duration_ms(), Some(1_250));
        assert_eq!(reader.by_ref().map(|block| block.unwrap().len()).sum::<usize>(), (20_000 - 44) / 2);
        assert!(reader.truncated());
    }
}

#[test]
fn blocks_join_to_the_clip() {
    let bytes = fixture("jfk.flac");
    let blocks: Vec<f32> = ClipReader::from_bytes(bytes.clone()).unwrap().flat_map(Result::unwrap).collect();
    assert_eq!(blocks, decode(&bytes).samples);
}

proptest! {
    #[test]
    fn a_wav_comes_back_as_it_was(samples in prop::collection::vec(any::<i16>(), 1..3000), rate_hz in 4000_u32..192_000) {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mono = pcm_to_mono(&bytes, PcmFormat::S16Le, 1).unwrap();
        let clip = decode(&wav_bytes(&mono, rate_hz).unwrap());
        prop_assert_eq!(clip, Clip { samples: mono, rate_hz, channels: 1, truncated: false });
    }

    #[test]
    fn damage_is_an_error_or_audio_and_never_a_panic(
        name in prop::sample::select(vec!["computer-01.wav", "computer-02.flac", "jfk-4s.ogg", "jfk-1s.mp3"]),
        damage in prop::collection::vec((0_usize..400, any::<u8>()), 0..12),
        keep in 0_usize..20_000,
    ) {
        let mut bytes = fixture(name);
        bytes.truncate(keep);
        for (at, byte) in damage {
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
        }
        if let Ok(clip) = Clip::decode(&bytes) {
            prop_assert!(clip.samples.iter().all(|sample| sample.is_finite()));
        }
    }
}
