//! The opcodes of pickle that make data, as Python's `pickletools` calls them (3.11); and why any other is refused. Pure.

pub const PROTO: u8 = 0x80;
pub const FRAME: u8 = 0x95;
pub const STOP: u8 = b'.';

pub const NONE: u8 = b'N';
pub const NEWTRUE: u8 = 0x88;
pub const NEWFALSE: u8 = 0x89;
pub const BININT: u8 = b'J';
pub const BININT1: u8 = b'K';
pub const BININT2: u8 = b'M';
pub const LONG1: u8 = 0x8a;
pub const BINFLOAT: u8 = b'G';
pub const SHORT_BINUNICODE: u8 = 0x8c;
pub const BINUNICODE: u8 = b'X';
pub const SHORT_BINBYTES: u8 = b'C';
pub const BINBYTES: u8 = b'B';

pub const EMPTY_LIST: u8 = b']';
pub const EMPTY_TUPLE: u8 = b')';
pub const EMPTY_SET: u8 = 0x8f;
pub const EMPTY_DICT: u8 = b'}';
pub const TUPLE: u8 = b't';
pub const TUPLE1: u8 = 0x85;
pub const TUPLE3: u8 = 0x87;
pub const FROZENSET: u8 = 0x91;

pub const MARK: u8 = b'(';
pub const APPEND: u8 = b'a';
pub const APPENDS: u8 = b'e';
pub const ADDITEMS: u8 = 0x90;
pub const SETITEM: u8 = b's';
pub const SETITEMS: u8 = b'u';

pub const MEMOIZE: u8 = 0x94;
pub const BINPUT: u8 = b'q';
pub const LONG_BINPUT: u8 = b'r';
pub const BINGET: u8 = b'h';
pub const LONG_BINGET: u8 = b'j';

pub const STACK_GLOBAL: u8 = 0x93;
pub const REDUCE: u8 = b'R';

/// Why a record with `opcode`, none of the above, is not read.
pub fn refusal(opcode: u8) -> &'static str {
    match opcode {
        b'c' => "pickle names code as before protocol 4 (GLOBAL)",
        b'b' => "pickle fills an object (BUILD)",
        0x81 | 0x92 => "pickle makes an object (NEWOBJ)",
        b'i' | b'o' => "pickle makes an object (INST, OBJ)",
        b'P' | b'Q' => "pickle refers to what is kept elsewhere (PERSID)",
        0x82..=0x84 => "pickle refers to a registry of code (EXT)",
        0x8b | 0x8d | 0x8e | 0x96 => "pickle has a value beyond all bounds",
        b'S' | b'T' | b'U' => "pickle has a text of Python 2",
        _ => "pickle has an opcode that makes no data",
    }
}
