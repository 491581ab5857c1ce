//! What `encoding/json` of Go 1.26 made of these texts, all in hexadecimal: input, answer of a decoder with
//! `UseNumber`, answer of `json.Unmarshal`. Answers begin with O (output) or E (error).

use outrigger_engine_dispatch::go_json::{Error, Numbers, transcode, transcode_prefix};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .map(|digit| char::from(digit).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn as_go_answers() {
    let mut seen = 0;
    for line in include_str!("golden/json.txt").lines() {
        let [input, decoder, unmarshal] = line.split('|').map(bytes).collect::<Vec<_>>().try_into().unwrap();
        let answer = |result: Result<(), Error>, out: Vec<u8>| match result {
            Ok(()) => format!("O{}", text(&out)),
            Err(error) => format!("E{error}"),
        };
        let mut out = Vec::new();
        let result = transcode_prefix(&input, Numbers::Verbatim, &mut out).map_err(Error::in_decoder);
        assert_eq!(answer(result, out), text(&decoder), "{:?}", text(&input));
        let mut out = Vec::new();
        let result = transcode(&input, Numbers::Doubles, &mut out).map_err(Error::in_unmarshal);
        assert_eq!(answer(result, out), text(&unmarshal), "{:?}", text(&input));
        seen += 1;
    }
    assert!(seen >= 100);
}
