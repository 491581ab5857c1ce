use std::{convert::Infallible, fs, path::PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use outrigger_component::Error;
use outrigger_crypto::DynCryptoProvider;

use super::{Cipher, EncryptOptions, SEGMENT_SIZE, decrypt, encrypt};
use crate::LocalStorage;

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

async fn provider() -> LocalStorage {
    LocalStorage::open(testdata("keys")).await.unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 256 * 13 + 3) as u8).collect()
}

fn chunks(
    bytes: &[u8],
    size: usize,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin + 'static {
    let chunks: Vec<_> = bytes
        .chunks(size)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    stream::iter(chunks)
}

async fn open(document: &[u8], size: usize, key: &str) -> Result<Vec<u8>, Error> {
    let provider = provider().await;
    let output = decrypt(&provider as &dyn DynCryptoProvider, chunks(document, size), key).await?;
    Ok(output.try_collect::<Vec<_>>().await?.concat())
}

async fn seal(plain: &[u8], size: usize, options: EncryptOptions) -> Vec<u8> {
    let provider = provider().await;
    let output = encrypt(&provider as &dyn DynCryptoProvider, chunks(plain, size), options)
        .await
        .unwrap();
    output.try_collect::<Vec<_>>().await.unwrap().concat()
}

#[tokio::test]
async fn documents_of_go_open() {
    for cipher in ["aes", "chacha"] {
        for length in [0, 11, 65536, 65537] {
            let document = fs::read(testdata(&format!("enc-{cipher}-{length}.bin"))).unwrap();
            for size in [97, 4096, SEGMENT_SIZE + 16, 1 << 20] {
                assert!(
                    open(&document, size, "").await.unwrap() == pattern(length),
                    "{cipher} {length} {size}"
                );
            }
        }
    }
    let document = fs::read(testdata("enc-rsa-11.bin")).unwrap();
    assert_eq!(open(&document, 1, "").await.unwrap(), pattern(11));
}

#[tokio::test]
async fn a_document_without_a_key_name_needs_one() {
    let document = fs::read(testdata("enc-noname-11.bin")).unwrap();
    assert_eq!(open(&document, 64, "kek").await.unwrap(), pattern(11));
    let error = open(&document, 64, "").await.unwrap_err();
    assert_eq!(
        error.chain(),
        "document's manifest does not contain a key name, and no key name was provided"
    );
}

#[tokio::test]
async fn own_documents_open_at_every_length() {
    for cipher in ["", "aes-gcm", "CHACHA20-POLY1305"] {
        for length in [
            0,
            1,
            SEGMENT_SIZE - 1,
            SEGMENT_SIZE,
            SEGMENT_SIZE + 1,
            2 * SEGMENT_SIZE,
            200_000,
        ] {
            for (key, algorithm) in [("kek", "aes"), ("rsa.pkcs8.pem", "RSA-OAEP-256")] {
                let options = EncryptOptions::parse(key, algorithm, cipher).unwrap();
                let document = seal(&pattern(length), 30_011, options).await;
                assert!(
                    open(&document, 50_021, "").await.unwrap() == pattern(length),
                    "{cipher} {length} {key}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_name_for_decryption_is_written_or_left_out() {
    let mut options = EncryptOptions::parse("kek", "A256KW", "").unwrap();
    options.decryption_key_name = Some("kek.json".into());
    let document = seal(b"x", 1, options.clone()).await;
    assert!(String::from_utf8_lossy(&document).contains(r#"{"k":"kek.json","kw":1,"#));
    assert_eq!(open(&document, 9, "").await.unwrap(), b"x");
    options.omit_key_name = true;
    let document = seal(b"x", 1, options).await;
    assert!(String::from_utf8_lossy(&document).contains(r#"{"kw":1,"#));
}

#[tokio::test]
async fn chunks_leave_before_the_input_ends() {
    let provider = provider().await;
    let options = EncryptOptions {
        cipher: Cipher::ChaCha20Poly1305,
        ..EncryptOptions::parse("kek", "AES", "").unwrap()
    };
    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[1; 8192])));
    let output = encrypt(&provider as &dyn DynCryptoProvider, endless, options)
        .await
        .unwrap();
    let lengths: Vec<_> = output.take(4).map(|chunk| chunk.unwrap().len()).collect().await;
    assert_eq!(lengths[1..], [SEGMENT_SIZE + 16; 3]);
}

#[tokio::test]
async fn changed_cut_or_moved_documents_do_not_open() {
    let document = fs::read(testdata("enc-aes-65537.bin")).unwrap();
    let body = document.len() - (65537 + 32);
    let signature = "failed to validate the document's signature";
    let segment = |number: u32| format!("error processing segment {number}: failed to decrypt segment");

    // Another key, an unknown key, a key of another kind: one answer.
    for key in ["kek.wrong", "rsa.pkcs8.pem", "p256.json"] {
        assert_eq!(open(&document, 512, key).await.unwrap_err().chain(), signature);
    }
    let mut changed = document.clone();
    changed[20] ^= 1; // in the key's name or beside it: the manifest is broken or its code wrong
    assert!(open(&changed, 512, "kek").await.is_err());
    let mut changed = document.clone();
    changed[body] ^= 1;
    assert_eq!(open(&changed, 512, "").await.unwrap_err().chain(), segment(0));
    let mut changed = document.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(open(&changed, 512, "").await.unwrap_err().chain(), segment(1));
    // Cut inside a segment, and cut exactly between two: the first would have been marked as the last.
    assert_eq!(
        open(&document[..document.len() - 1], 512, "")
            .await
            .unwrap_err()
            .chain(),
        segment(1)
    );
    assert_eq!(
        open(&document[..body + SEGMENT_SIZE + 16], 512, "")
            .await
            .unwrap_err()
            .chain(),
        segment(0)
    );
    // The second segment in place of the first.
    let moved = [&document[..body], &document[body + SEGMENT_SIZE + 16..]].concat();
    assert_eq!(open(&moved, 512, "").await.unwrap_err().chain(), segment(0));
    let longer = [document.as_slice(), b"x"].concat();
    assert_eq!(open(&longer, 512, "").await.unwrap_err().chain(), segment(1));
}

#[tokio::test]
async fn broken_headers_say_what_is_missing() {
    for (document, expected) in [
        ("", "invalid header: scheme name not found"),
        ("dapr.io/enc/v2\n", "invalid header: unsupported scheme"),
        ("\n", "invalid header: invalid format"),
        ("dapr.io/enc/v1\n", "invalid header: manifest not found"),
        (
            "dapr.io/enc/v1\n{}\n",
            "invalid header: message authentication code not found",
        ),
        ("dapr.io/enc/v1\n{}\nAAAA\n", "invalid header: invalid manifest"),
        (
            "dapr.io/enc/v1\n{\"k\":\"kek\",\"kw\":9,\"wfk\":\"AA==\",\"cph\":1,\"np\":\"AAAAAAAAAA==\"}\nAAAA\n",
            "invalid header: invalid manifest",
        ),
        (
            "dapr.io/enc/v1\n{\"k\":\"kek\",\"kw\":1,\"wfk\":\"AA==\",\"cph\":1,\"np\":\"AAAAAAAAAA==\"}\nAAAA\n",
            "failed to validate the document's signature",
        ),
    ] {
        assert_eq!(
            open(document.as_bytes(), 5, "").await.unwrap_err().chain(),
            expected,
            "{document:?}"
        );
    }
    let endless = vec![b'a'; 2 * SEGMENT_SIZE];
    assert_eq!(
        open(&endless, 512, "").await.unwrap_err().chain(),
        "invalid header: scheme name not found"
    );
}

#[tokio::test]
async fn a_failing_input_ends_the_output() {
    let provider = provider().await;
    let input = stream::iter([Ok(Bytes::from_static(b"abc")), Err("the caller went away")]);
    let output = encrypt(
        &provider as &dyn DynCryptoProvider,
        input,
        EncryptOptions::parse("kek", "AES", "").unwrap(),
    );
    let error = output.await.unwrap().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.chain(), "the caller went away");
}

#[tokio::test]
async fn unknown_options_are_refused() {
    for (key, algorithm, cipher, expected) in [
        ("", "AES", "", "option KeyName is required"),
        ("k", "", "", "option Algorithm is required"),
        (
            "k",
            "foo",
            "",
            "option Algorithm is not valid: algorithm FOO is not supported",
        ),
        (
            "k",
            "RSA",
            "foo",
            "option Cipher is not valid: cipher FOO is not supported",
        ),
    ] {
        assert_eq!(
            EncryptOptions::parse(key, algorithm, cipher).unwrap_err().chain(),
            expected
        );
    }
    let provider = provider().await;
    let options = EncryptOptions::parse("absent", "AES", "").unwrap();
    let Err(error) = encrypt(&provider as &dyn DynCryptoProvider, chunks(b"x", 1), options).await else {
        panic!("no such key")
    };
    assert!(
        error
            .chain()
            .starts_with("failed to wrap the file key: failed to retrieve the key encryption key: ")
    );
}
