//! The functions that the host gives to a guest: the module `http_handler`.
//!
//! A function that cannot do what it is asked for ends the guest's call with an error, as the ABI wants it. Lengths
//! come back even where the guest's buffer is too small, so that it can ask again with a larger one.

use http::{Method, Uri, Version};
use wasmi::{Caller, Error, Extern, Linker, Memory, errors::LinkerError};

use super::{
    exchange::{Exchange, OFFERED, pair},
    guest::State,
};

const MODULE: &str = "http_handler";

fn trap(message: impl Into<String>) -> Error {
    Error::new(message.into())
}

pub(super) fn memory(caller: &Caller<'_, State>) -> Result<Memory, Error> {
    caller
        .get_export("memory")
        .and_then(Extern::into_memory)
        .ok_or_else(|| trap("the guest has no memory"))
}

/// A region of the guest's memory.
pub(super) fn region(start: u32, length: u32) -> std::ops::Range<usize> {
    let start = start as usize;
    start..start + length as usize
}

pub(super) fn read(caller: &Caller<'_, State>, start: u32, length: u32) -> Result<Vec<u8>, Error> {
    memory(caller)?
        .data(caller)
        .get(region(start, length))
        .map(<[u8]>::to_vec)
        .ok_or_else(|| trap("the guest names memory that it does not have"))
}

pub(super) fn write(caller: &mut Caller<'_, State>, start: u32, bytes: &[u8]) -> Result<(), Error> {
    memory(caller)?
        .write(caller, start as usize, bytes)
        .map_err(|_| trap("the guest names memory that it does not have"))
}

fn length(bytes: &[u8]) -> Result<u32, Error> {
    u32::try_from(bytes.len()).map_err(|_| trap("too long for a guest"))
}

/// Writes what fits and gives the length.
fn give(caller: &mut Caller<'_, State>, buffer: u32, limit: u32, bytes: &[u8]) -> Result<u32, Error> {
    let length = length(bytes)?;
    if length <= limit && length > 0 {
        write(caller, buffer, bytes)?;
    }
    Ok(length)
}

/// Writes texts, each with a NUL behind it: the count in the upper half, the length in the lower.
fn give_all(
    caller: &mut Caller<'_, State>,
    buffer: u32,
    limit: u32,
    texts: &[Vec<u8>],
) -> Result<i64, Error> {
    if texts.is_empty() {
        return Ok(0);
    }
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend_from_slice(text);
        bytes.push(0);
    }
    let length = give(caller, buffer, limit, &bytes)?;
    let count = i64::try_from(texts.len()).map_err(|_| trap("too many for a guest"))?;
    Ok(count << 32 | i64::from(length))
}

fn exchange<'a>(caller: &'a mut Caller<'_, State>) -> &'a mut Exchange {
    &mut caller.data_mut().exchange
}

pub(super) fn define(linker: &mut Linker<State>) -> Result<(), LinkerError> {
    general(linker)?;
    request(linker)?;
    headers(linker)?;
    bodies(linker)
}

fn general(linker: &mut Linker<State>) -> Result<(), LinkerError> {
    linker
        .func_wrap(
            MODULE,
            "enable_features",
            |mut caller: Caller<'_, State>, features: u32| {
                let exchange = exchange(&mut caller);
                exchange.features |= features & OFFERED;
                exchange.features
            },
        )?
        .func_wrap(
            MODULE,
            "get_config",
            |mut caller: Caller<'_, State>, buffer: u32, limit: u32| {
                let config = std::sync::Arc::clone(&caller.data().config);
                give(&mut caller, buffer, limit, config.as_bytes())
            },
        )?
        .func_wrap(MODULE, "log_enabled", |level: i32| i32::from(logs(level)))?
        .func_wrap(
            MODULE,
            "log",
            |caller: Caller<'_, State>, level: i32, message: u32, length: u32| -> Result<(), Error> {
                if !logs(level) {
                    return Ok(());
                }
                let message = read(&caller, message, length)?;
                let message = String::from_utf8_lossy(&message);
                let handler = &*caller.data().name;
                match level {
                    -1 => tracing::debug!(handler, "{message}"),
                    0 => tracing::info!(handler, "{message}"),
                    1 => tracing::warn!(handler, "{message}"),
                    _ => tracing::error!(handler, "{message}"),
                }
                Ok(())
            },
        )?;
    Ok(())
}

fn logs(level: i32) -> bool {
    match level {
        -1 => tracing::enabled!(tracing::Level::DEBUG),
        0 => tracing::enabled!(tracing::Level::INFO),
        1 => tracing::enabled!(tracing::Level::WARN),
        2 => tracing::enabled!(tracing::Level::ERROR),
        _ => false,
    }
}

fn request(linker: &mut Linker<State>) -> Result<(), LinkerError> {
    linker
        .func_wrap(
            MODULE,
            "get_method",
            |mut caller: Caller<'_, State>, buffer: u32, limit: u32| {
                let method = exchange(&mut caller).method.clone();
                give(&mut caller, buffer, limit, method.as_str().as_bytes())
            },
        )?
        .func_wrap(
            MODULE,
            "set_method",
            |mut caller: Caller<'_, State>, start: u32, length: u32| -> Result<(), Error> {
                let method = read(&caller, start, length)?;
                let exchange = exchange(&mut caller);
                exchange.may_change(true).map_err(trap)?;
                exchange.method =
                    Method::from_bytes(&method).map_err(|_| trap("the guest's method cannot be sent"))?;
                Ok(())
            },
        )?
        .func_wrap(
            MODULE,
            "get_uri",
            |mut caller: Caller<'_, State>, buffer: u32, limit: u32| {
                let uri = &exchange(&mut caller).uri;
                let text = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
                give(&mut caller, buffer, limit, text.as_bytes())
            },
        )?
        .func_wrap(
            MODULE,
            "set_uri",
            |mut caller: Caller<'_, State>, start: u32, length: u32| -> Result<(), Error> {
                let text = read(&caller, start, length)?;
                let exchange = exchange(&mut caller);
                exchange.may_change(true).map_err(trap)?;
                let text = if text.is_empty() { b"/".to_vec() } else { text };
                let path = text
                    .starts_with(b"/")
                    .then(|| http::uri::PathAndQuery::try_from(text).ok())
                    .flatten()
                    .ok_or_else(|| trap("the guest's URI is not a path"))?;
                let mut parts = exchange.uri.clone().into_parts();
                parts.path_and_query = Some(path);
                exchange.uri = Uri::from_parts(parts).map_err(|_| trap("the guest's URI is not a path"))?;
                Ok(())
            },
        )?
        .func_wrap(
            MODULE,
            "get_protocol_version",
            |mut caller: Caller<'_, State>, buffer: u32, limit: u32| {
                let version = match exchange(&mut caller).version {
                    Version::HTTP_10 => "HTTP/1.0",
                    Version::HTTP_2 => "HTTP/2.0",
                    _ => "HTTP/1.1",
                };
                give(&mut caller, buffer, limit, version.as_bytes())
            },
        )?
        .func_wrap(
            MODULE,
            "get_source_addr",
            |mut caller: Caller<'_, State>, buffer: u32, limit: u32| {
                let source = exchange(&mut caller).source.clone();
                give(&mut caller, buffer, limit, source.as_bytes())
            },
        )?
        .func_wrap(MODULE, "get_status_code", |mut caller: Caller<'_, State>| {
            u32::from(exchange(&mut caller).status.as_u16())
        })?
        .func_wrap(
            MODULE,
            "set_status_code",
            |mut caller: Caller<'_, State>, status: u32| -> Result<(), Error> {
                let exchange = exchange(&mut caller);
                exchange.may_change(false).map_err(trap)?;
                exchange.status = u16::try_from(status)
                    .ok()
                    .and_then(|status| http::StatusCode::from_u16(status).ok())
                    .ok_or_else(|| trap("the guest's status is none"))?;
                Ok(())
            },
        )?;
    Ok(())
}

fn headers(linker: &mut Linker<State>) -> Result<(), LinkerError> {
    linker
        .func_wrap(
            MODULE,
            "get_header_names",
            |mut caller: Caller<'_, State>, kind: i32, buffer: u32, limit: u32| {
                let mut names: Vec<Vec<u8>> = exchange(&mut caller)
                    .headers(kind)
                    .map(|headers| {
                        headers
                            .keys()
                            .map(|name| name.as_str().as_bytes().to_vec())
                            .collect()
                    })
                    .unwrap_or_default();
                names.sort_unstable();
                give_all(&mut caller, buffer, limit, &names)
            },
        )?
        .func_wrap(
            MODULE,
            "get_header_values",
            |mut caller: Caller<'_, State>, kind: i32, name: u32, length: u32, buffer: u32, limit: u32| {
                let name = read(&caller, name, length)?;
                let (name, _) = pair(&name, b"").map_err(trap)?;
                let values: Vec<Vec<u8>> = exchange(&mut caller)
                    .headers(kind)
                    .map(|headers| {
                        let values = headers.get_all(name).iter();
                        values.map(|value| value.as_bytes().to_vec()).collect()
                    })
                    .unwrap_or_default();
                give_all(&mut caller, buffer, limit, &values)
            },
        )?
        .func_wrap(
            MODULE,
            "set_header_value",
            |mut caller: Caller<'_, State>,
             kind: i32,
             name: u32,
             name_length: u32,
             value: u32,
             value_length: u32| {
                let (name, value) = (
                    read(&caller, name, name_length)?,
                    read(&caller, value, value_length)?,
                );
                let (name, value) = pair(&name, &value).map_err(trap)?;
                changeable(&mut caller, kind)?.insert(name, value);
                Ok::<_, Error>(())
            },
        )?
        .func_wrap(
            MODULE,
            "add_header_value",
            |mut caller: Caller<'_, State>,
             kind: i32,
             name: u32,
             name_length: u32,
             value: u32,
             value_length: u32| {
                let (name, value) = (
                    read(&caller, name, name_length)?,
                    read(&caller, value, value_length)?,
                );
                let (name, value) = pair(&name, &value).map_err(trap)?;
                changeable(&mut caller, kind)?.append(name, value);
                Ok::<_, Error>(())
            },
        )?
        .func_wrap(
            MODULE,
            "remove_header",
            |mut caller: Caller<'_, State>, kind: i32, name: u32, length: u32| {
                let name = read(&caller, name, length)?;
                let (name, _) = pair(&name, b"").map_err(trap)?;
                changeable(&mut caller, kind)?.remove(name);
                Ok::<_, Error>(())
            },
        )?;
    Ok(())
}

fn changeable<'a>(caller: &'a mut Caller<'_, State>, kind: i32) -> Result<&'a mut http::HeaderMap, Error> {
    let exchange = exchange(caller);
    exchange.may_change(kind == 0).map_err(trap)?;
    exchange
        .headers(kind)
        .ok_or_else(|| trap("trailers are not supported"))
}

fn bodies(linker: &mut Linker<State>) -> Result<(), LinkerError> {
    linker
        .func_wrap(
            MODULE,
            "read_body",
            |mut caller: Caller<'_, State>, kind: i32, buffer: u32, limit: u32| {
                if limit == 0 {
                    return Err(trap("buf_limit==0 reading body"));
                }
                let exchange = exchange(&mut caller);
                let content = match kind {
                    0 => &mut exchange.request_body,
                    1 => &mut exchange.response_body,
                    _ => return Err(trap("unsupported body kind")),
                };
                let (part, last) = content.read(limit as usize);
                let length = give(&mut caller, buffer, limit, &part)?;
                Ok(i64::from(last) << 32 | i64::from(length))
            },
        )?
        .func_wrap(
            MODULE,
            "write_body",
            |mut caller: Caller<'_, State>, kind: i32, start: u32, length: u32| {
                let part = read(&caller, start, length)?;
                let exchange = exchange(&mut caller);
                exchange.may_change(kind == 0).map_err(trap)?;
                let content = match kind {
                    0 => &mut exchange.request_body,
                    1 => &mut exchange.response_body,
                    _ => return Err(trap("unsupported body kind")),
                };
                content.write(&part).map_err(trap)
            },
        )?;
    Ok(())
}
