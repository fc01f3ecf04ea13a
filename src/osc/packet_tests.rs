use proptest::prelude::*;
use rosc::{OscArray, OscBundle, OscColor, OscMidiMessage};

use super::*;

fn limits() -> Limits {
    Limits::default()
}

/// A packet of the parts, each filled up to a multiple of 4.
fn packed(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn wrong(packet: &[u8]) -> String {
    decode(packet, &limits()).unwrap_err().to_string()
}

#[test]
fn every_type_is_read() {
    let packet = packed(&[
        b"/all\0",
        b",ifsbhtdScrmTFNI[i[s]]\0",
        &7_i32.to_be_bytes(),
        &0.5_f32.to_be_bytes(),
        b"red\0",
        &3_u32.to_be_bytes(),
        &[1, 2, 3],
        &i64::MIN.to_be_bytes(),
        &[0, 0, 0, 0, 0, 0, 0, 1],
        &0.1_f64.to_be_bytes(),
        b"symbol\0",
        &u32::from('ä').to_be_bytes(),
        &[1, 2, 3, 4],
        &[0, 0x90, 60, 100],
        &9_i32.to_be_bytes(),
        b"deep\0",
    ]);
    let array = |content| OscType::Array(OscArray { content });
    let [Timed { at, message }] = decode(&packet, &limits()).unwrap().try_into().unwrap();
    assert_eq!((at, message.addr.as_str()), (IMMEDIATELY, "/all"));
    assert_eq!(
        message.args,
        [
            OscType::Int(7),
            OscType::Float(0.5),
            OscType::String("red".to_owned()),
            OscType::Blob(vec![1, 2, 3]),
            OscType::Long(i64::MIN),
            OscType::Time(IMMEDIATELY),
            OscType::Double(0.1),
            OscType::String("symbol".to_owned()),
            OscType::Char('ä'),
            OscType::Color(OscColor { red: 1, green: 2, blue: 3, alpha: 4 }),
            OscType::Midi(OscMidiMessage { port: 0, status: 0x90, data1: 60, data2: 100 }),
            OscType::Bool(true),
            OscType::Bool(false),
            OscType::Nil,
            OscType::Inf,
            array(vec![OscType::Int(9), array(vec![OscType::String("deep".to_owned())])]),
        ]
    );
}

#[test]
fn type_tags_may_be_left_out() {
    let found = decode(b"/old\0\0\0\0", &limits()).unwrap();
    assert_eq!(found[0].message, OscMessage { addr: "/old".to_owned(), args: vec![] });
}

#[test]
fn bundles_keep_their_order_and_their_times() {
    let message = |addr: &str| OscPacket::Message(OscMessage { addr: addr.to_owned(), args: vec![OscType::Int(1)] });
    let (first, second) = (OscTime { seconds: 5, fractional: 6 }, OscTime { seconds: 7, fractional: 8 });
    let inner = OscPacket::Bundle(OscBundle { timetag: second, content: vec![message("/b"), message("/c")] });
    let outer = OscPacket::Bundle(OscBundle { timetag: first, content: vec![message("/a"), inner, message("/d")] });
    let found = decode(&rosc::encoder::encode(&outer).unwrap(), &limits()).unwrap();
    let found: Vec<_> = found.iter().map(|timed| (timed.message.addr.as_str(), timed.at)).collect();
    assert_eq!(found, [("/a", first), ("/b", second), ("/c", second), ("/d", first)]);
    let empty = rosc::encoder::encode(&OscPacket::Bundle(OscBundle { timetag: first, content: vec![] })).unwrap();
    assert_eq!(decode(&empty, &limits()).unwrap(), []);
}

#[test]
fn what_lies_is_refused_and_says_why() {
    assert_eq!(wrong(b""), "the packet is empty");
    assert_eq!(wrong(b"hello\0\0\0"), "the packet is no OSC: it begins neither with / nor with #bundle");
    assert_eq!(wrong(b"#bundlf\0"), "the packet is no OSC: it begins neither with / nor with #bundle");
    assert_eq!(wrong(b"/abc"), "the packet ends within an address");
    assert_eq!(wrong(b"/ab\0,i"), "the packet ends within the type tags");
    assert_eq!(wrong(b"/ab\0,i\0\0"), "the type tags of /ab promise arguments, and there are none");
    assert!(wrong(b"/ab\0,ii\0\0\0\0\x01").starts_with("the type tags of /ab do not fit what follows"));
    assert_eq!(wrong(b"/ab\0,i\0\0\0\0\0\x01\0\0\0\x02"), "the type tags of /ab leave 4 bytes over");
    assert_eq!(wrong(b"/ab\0iii\0\0\0\0\x01"), "the type tags of /ab do not begin with a comma");
    assert_eq!(wrong(b"/ab\0,q\0\0"), "the type tags of /ab have 'q', which is no type");
    assert_eq!(wrong(b"/ab\0,[\0\0"), "the type tags of /ab do not close an array");
    assert_eq!(wrong(b"/ab\0,]\0\0"), "the type tags of /ab close an array that was not opened");
    assert!(wrong(b"/ab\0,b\0\0\xFF\xFF\xFF\xFF").starts_with("the type tags of /ab do not fit"));
    assert!(wrong("/ä\0".as_bytes()).contains("only printable ASCII is taken"));
    assert!(wrong(b"/a\x07\0").contains("0x07"));
    assert_eq!(wrong(b"#bundle\0\0\0"), "the packet ends within the time tag of a bundle");
    assert_eq!(wrong(b"#bundle\0\0\0\0\0\0\0\0\x01\0\0\0\x08/a\0\0"), "the packet ends within a bundle's element");
    assert!(wrong(b"#bundle\0\0\0\0\0\0\0\0\x01\0\0\0\x03/a\0").contains("no multiple of 4"));
    // A broken bundle is not done by half.
    let half = b"#bundle\0\0\0\0\0\0\0\0\x01\0\0\0\x04/a\0\0\0\0\0\x04/b";
    assert_eq!(wrong(half), "the packet ends within a bundle's element");
}

#[test]
fn more_than_reason_is_refused() {
    assert_eq!(wrong(&vec![b'/'; 70_000]), "the packet has 70000 bytes, and 65507 are taken");
    let mut nested = b"/a\0\0".to_vec();
    for _ in 0..9 {
        let size = u32::try_from(nested.len()).unwrap();
        nested = [b"#bundle\0\0\0\0\0\0\0\0\x01".as_slice(), &size.to_be_bytes(), &nested].concat();
    }
    assert_eq!(wrong(&nested), "more than 8 bundles within each other");
    assert_eq!(decode(&nested[20..], &limits()).unwrap().len(), 1);
    // As deep as a datagram allows: no recursion, no stack.
    let mut deepest = Vec::new();
    while deepest.len() + 20 <= 65_500 {
        let size = u32::try_from(deepest.len()).unwrap();
        deepest = [b"#bundle\0\0\0\0\0\0\0\0\x01".as_slice(), &size.to_be_bytes(), &deepest].concat();
    }
    let deep = Limits { bundle_depth: usize::MAX, ..limits() };
    assert!(decode(&deepest, &deep).is_err());
    let array = packed(&[b"/a\0", format!(",{}{}\0", "[".repeat(9), "]".repeat(9)).as_bytes()]);
    assert_eq!(wrong(&array), "more than 8 arrays within each other");
    let many = packed(&[b"/a\0", format!(",{}\0", "T".repeat(1_025)).as_bytes()]);
    assert_eq!(wrong(&many), "more than 1024 arguments of a message");
    let long = packed(&[format!("/{}\0", "a".repeat(255)).as_bytes()]);
    assert_eq!(wrong(&long), "more than 255 characters in an address");
    let flood = [b"#bundle\0\0\0\0\0\0\0\0\x01".as_slice(), &b"\0\0\0\x04/a\0\0".repeat(1_025)].concat();
    assert_eq!(wrong(&flood), "more than 1024 messages in a packet");
}

#[test]
fn what_can_not_be_written_is_refused() {
    let wrong = |addr: &str, args| encode(&OscMessage { addr: addr.to_owned(), args }).unwrap_err().to_string();
    assert!(wrong("a", vec![]).starts_with("\"a\" is no OSC address: it does not begin with /"));
    assert!(wrong("/ä", vec![]).contains("only printable ASCII"));
    assert!(wrong("/a b", vec![]).contains("without spaces"));
    let text = OscType::String("a\0b".to_owned());
    assert!(wrong("/a", vec![OscType::Array(OscArray { content: vec![text] })]).contains("NUL"));
    assert!(wrong("/a", vec![OscType::Blob(vec![0; 66_000])]).contains("fit into a datagram"));
}

fn arg() -> impl Strategy<Value = OscType> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(OscType::Int),
        any::<f32>().prop_map(OscType::Float),
        "[^\0]{0,12}".prop_map(OscType::String),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(OscType::Blob),
        any::<(u32, u32)>().prop_map(|(seconds, fractional)| OscType::Time(OscTime { seconds, fractional })),
        any::<i64>().prop_map(OscType::Long),
        any::<f64>().prop_map(OscType::Double),
        any::<char>().prop_map(OscType::Char),
        any::<[u8; 4]>().prop_map(|[red, green, blue, alpha]| OscType::Color(OscColor { red, green, blue, alpha })),
        any::<[u8; 4]>().prop_map(|[port, status, data1, data2]| OscType::Midi(OscMidiMessage {
            port,
            status,
            data1,
            data2
        })),
        any::<bool>().prop_map(OscType::Bool),
        Just(OscType::Nil),
        Just(OscType::Inf),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(|content| OscType::Array(OscArray { content }))
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(addr in "/[!-~]{0,30}", args in prop::collection::vec(arg(), 0..8)) {
        let message = OscMessage { addr, args };
        let found = decode(&encode(&message).unwrap(), &limits()).unwrap();
        // Not-a-number is never equal to itself.
        prop_assert_eq!(format!("{:?}", found[0].message), format!("{message:?}"));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &limits());
        let _ = decode(&[b"#bundle\0\0\0\0\0\0\0\0\x01".as_slice(), &bytes].concat(), &limits());
        let _ = decode(&[b"/a\0\0,".as_slice(), &bytes].concat(), &limits());
    }

    #[test]
    fn a_bit_that_flips_does_no_harm(args in prop::collection::vec(arg(), 0..6), at: prop::sample::Index, bit in 0_u8..8, cut: prop::sample::Index) {
        let mut bytes = encode(&OscMessage { addr: "/a/b".to_owned(), args }).unwrap();
        let cut = cut.index(bytes.len());
        let _ = decode(&bytes[..cut], &limits());
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let _ = decode(&bytes, &limits());
    }
}
