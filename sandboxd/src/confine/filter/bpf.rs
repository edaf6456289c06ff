//! A small assembler for seccomp's classic BPF: rules by system call number, in, checked program out.
//!
//! It exists because no crate offers the user notification together with the x32 check that a default-allow filter
//! cannot do without.

/// One instruction, as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::confine) struct Instruction {
    pub(in crate::confine) code: u16,
    pub(in crate::confine) if_true: u8,
    pub(in crate::confine) if_false: u8,
    pub(in crate::confine) value: u32,
}

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// The call fails with this error and does nothing.
    Errno(i32),
    /// The supervisor answers the call.
    Notify,
}

/// A condition on one argument. Every argument that the filter looks at is a 32-bit number to the kernel, which
/// ignores the upper half of the register, and so does the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Argument number, value.
    Equals(u8, u32),
    /// Argument number, mask, value of the masked bits.
    Masked(u8, u32, u32),
    /// Argument number, bits of which at least one is set.
    AnyBit(u8, u32),
}

/// The first of these whose tests all hold decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) when: Vec<Test>,
    pub(super) then: Verdict,
}

/// What happens to one system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) call: i64,
    pub(super) cases: Vec<Case>,
    pub(super) otherwise: Verdict,
}

impl Rule {
    pub(super) fn always(call: i64, verdict: Verdict) -> Self {
        Self { call, cases: Vec::new(), otherwise: verdict }
    }

    /// Allowed, unless a test holds.
    pub(super) fn unless(call: i64, tests: impl IntoIterator<Item = Test>, verdict: Verdict) -> Self {
        let cases = tests.into_iter().map(|test| Case { when: vec![test], then: verdict }).collect();
        Self { call, cases, otherwise: Verdict::Allow }
    }

    /// Allowed only when all tests hold.
    pub(super) fn only_if(call: i64, tests: impl IntoIterator<Item = Test>, otherwise: Verdict) -> Self {
        let case = Case { when: tests.into_iter().collect(), then: Verdict::Allow };
        Self { call, cases: vec![case], otherwise }
    }
}

/// The rules do not fit the machine: a jump longer than 255 instructions or a program longer than 4096.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system call filter is too long")]
pub(in crate::confine) struct TooLong;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where the kernel's `seccomp_data` holds the number, the architecture and the lower halves of the arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: u32 = 0xC000_00B7;

/// The first number of the x32 calls, which carry the native architecture's mark and would slip past every rule.
const X32: u32 = 0x4000_0000;

/// The longest program that the kernel takes.
const MAX_INSTRUCTIONS: usize = 4096;

pub(super) const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;

impl Verdict {
    pub(super) fn encode(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | (errno.unsigned_abs() & libc::SECCOMP_RET_DATA),
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// Assembles the filter: foreign architectures are killed, x32 calls do not exist, the rules apply, and what they do
/// not name is allowed.
pub(super) fn assemble(rules: &[Rule]) -> Result<Vec<Instruction>, TooLong> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        jump(JUMP_EQUAL, NATIVE, 1, 0),
        statement(RETURN, KILL_PROCESS),
        statement(LOAD, NUMBER),
        jump(JUMP_AT_LEAST, X32, 0, 1),
        verdict(Verdict::Errno(libc::ENOSYS)),
    ];
    for rule in rules {
        let body = body(rule)?;
        let number = u32::try_from(rule.call).map_err(|_| TooLong)?;
        program.push(jump(JUMP_EQUAL, number, 0, length(&body)?));
        program.extend(body);
    }
    program.push(verdict(Verdict::Allow));
    if program.len() > MAX_INSTRUCTIONS { Err(TooLong) } else { Ok(program) }
}

/// The instructions for one call. They always end in a return, so the accumulator may be overwritten.
fn body(rule: &Rule) -> Result<Vec<Instruction>, TooLong> {
    let mut body = Vec::new();
    for case in &rule.cases {
        let mut rest = vec![verdict(case.then)];
        for test in case.when.iter().rev() {
            let (argument, mask, compare, value) = match *test {
                Test::Equals(argument, value) => (argument, None, JUMP_EQUAL, value),
                Test::Masked(argument, mask, value) => (argument, Some(mask), JUMP_EQUAL, value),
                Test::AnyBit(argument, bits) => (argument, None, JUMP_ANY_BIT, bits),
            };
            let mut head = vec![statement(LOAD, ARGUMENTS + 8 * u32::from(argument))];
            head.extend(mask.map(|mask| statement(AND, mask)));
            head.push(jump(compare, value, 0, length(&rest)?));
            head.append(&mut rest);
            rest = head;
        }
        body.append(&mut rest);
    }
    body.push(verdict(rule.otherwise));
    Ok(body)
}

fn length(instructions: &[Instruction]) -> Result<u8, TooLong> {
    u8::try_from(instructions.len()).map_err(|_| TooLong)
}

fn statement(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

fn jump(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

fn verdict(verdict: Verdict) -> Instruction {
    statement(RETURN, verdict.encode())
}

/// What the kernel's machine does, for tests.
#[cfg(test)]
pub(super) fn interpret(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut accumulator = 0u32;
    let mut at = 0;
    loop {
        let Instruction { code, if_true, if_false, value } = program[at];
        let holds = match code {
            LOAD => {
                accumulator = match value {
                    NUMBER => number,
                    ARCHITECTURE => architecture,
                    offset => arguments[(offset as usize - 16) / 8] as u32,
                };
                at += 1;
                continue;
            }
            AND => {
                accumulator &= value;
                at += 1;
                continue;
            }
            RETURN => return value,
            JUMP_EQUAL => accumulator == value,
            JUMP_AT_LEAST => accumulator >= value,
            JUMP_ANY_BIT => accumulator & value != 0,
            other => unreachable!("instruction {other:#x}"),
        };
        at += 1 + usize::from(if holds { if_true } else { if_false });
    }
}
