//! Just enough JSON to write.

/// A quoted string; what is not UTF-8 is replaced.
pub fn string(bytes: impl AsRef<[u8]>) -> String {
    let mut out = String::from("\"");
    for c in String::from_utf8_lossy(bytes.as_ref()).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

pub fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

pub fn object(items: impl IntoIterator<Item = (String, String)>) -> String {
    let items: Vec<String> = items.into_iter().map(|(key, value)| format!("{}:{value}", string(key))).collect();
    format!("{{{}}}", items.join(","))
}
