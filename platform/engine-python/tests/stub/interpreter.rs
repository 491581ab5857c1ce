//! Stands in for an interpreter in tests of the protocol (R7): it says of itself what the engine asks of Python, and
//! then speaks frames by hand. The worker's code and each event's data are orders to it.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    if std::env::args().any(|arg| arg == "-E") {
        return work();
    }
    let itself = std::env::current_exe()?;
    let libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
    let about = json!({
        "executable": itself, "version": [3, 11, 0], "stdlib": [], "site": [], "libraries": libraries,
    });
    std::io::stdout().write_all(about.to_string().as_bytes())
}

/// The socket to the engine; it is standard input, and writes go there too.
fn socket() -> std::io::Result<std::fs::File> {
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?.into())
}

fn receive() -> std::io::Result<Value> {
    let mut socket = socket()?;
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn frame(body: &Value) -> std::io::Result<Vec<u8>> {
    let body = body.to_string().into_bytes();
    let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
    Ok([length.to_be_bytes().to_vec(), body].concat())
}

fn send(body: &Value) -> std::io::Result<()> {
    socket()?.write_all(&frame(body)?)
}

fn work() -> std::io::Result<()> {
    let load = receive()?;
    let orders: Value = serde_json::from_str(load["code"].as_str().unwrap_or("null"))?;
    if let Some(first) = orders.get("instead of ready") {
        send(first)?;
    } else {
        send(&json!({"type": "ready"}))?;
    }
    let mut held = Vec::new();
    loop {
        let said = receive()?;
        match said["type"].as_str() {
            Some("ping") if orders.get("silent").is_none() => send(&json!({"type": "pong"}))?,
            Some("shutdown") if orders.get("stubborn").is_none() => return Ok(()),
            Some("process") => answer(&load, &said, &mut held)?,
            _ => {}
        }
    }
}

fn answer(load: &Value, said: &Value, held: &mut Vec<Value>) -> std::io::Result<()> {
    let result =
        |data: Value| json!({"type": "result", "id": said["id"], "cloudEvent": {"type": "a", "data": data}});
    let event = &said["cloudEvent"];
    match event["data"].as_str() {
        Some("event") => send(&result(event.clone())),
        Some("load") => send(&result(load.clone())),
        Some("process") => send(&result(json!(std::process::id()))),
        Some("nothing") => send(&json!({"type": "result", "id": said["id"]})),
        Some("null") => send(&json!({"type": "result", "id": said["id"], "cloudEvent": null})),
        Some("fail") => send(&json!({"type": "error", "id": said["id"], "message": "no luck"})),
        Some("in pieces") => {
            for byte in frame(&result(json!("whole")))? {
                socket()?.write_all(&[byte])?;
                std::thread::yield_now();
            }
            Ok(())
        }
        // The second of two is answered first, both in one write.
        Some("backwards") => {
            held.push(result(event["id"].clone()));
            if held.len() == 2 {
                let both = held
                    .drain(..)
                    .rev()
                    .map(|one| frame(&one))
                    .collect::<Result<Vec<_>, _>>()?;
                socket()?.write_all(&both.concat())?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
