//! GPT-2's spelling of bytes as printable characters.
#![forbid(unsafe_code)]

/// The character that stands for `byte` in a byte-level vocabulary: itself where it is printable, else
/// the next free one from U+0100 on (`bytes_to_unicode` in GPT-2's encoder.py).
pub fn to_char(byte: u8) -> char {
    let is_plain = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_plain(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !is_plain(b)).count() as u32;
    char::from_u32(0x100 + rank).unwrap_or('\u{FFFD}')
}

/// The byte that `c` stands for.
pub fn to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        n @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => u8::try_from(n).ok(),
        // 0..=0x20, then 0x7F..=0xA0, then 0xAD.
        n @ 0x100..=0x120 => u8::try_from(n - 0x100).ok(),
        n @ 0x121..=0x142 => u8::try_from(n - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The bytes that a token's spelling stands for; the spelling itself where it is not byte-level.
pub fn decode(spelling: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = spelling.chars().map(to_byte).collect();
    bytes.unwrap_or_else(|| spelling.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=255u8 {
            assert_eq!(to_byte(to_char(byte)), Some(byte), "{byte}");
        }
        assert_eq!(to_char(b' '), 'Ġ');
        assert_eq!(to_char(b'\n'), 'Ċ');
    }
}
