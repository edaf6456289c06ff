use super::*;

/// Numbers that look random and are the same in every run.
fn sequence(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    }
}

#[test]
fn keeps_head_and_tail_of_any_output_written_in_any_pieces() {
    for seed in 0..400 {
        let mut next = sequence(seed);
        let keep = 2 * (1 + next(40)) as usize;
        let mut ring = OutputRing::new(keep);
        let mut whole = Vec::new();
        for _ in 0..next(30) {
            let piece: Vec<u8> = (0..next(3 * keep as u64)).map(|_| next(256) as u8).collect();
            ring.push(&piece);
            whole.extend(piece);

            assert_eq!(ring.total(), whole.len() as u64);
            assert_eq!(ring.digest(), Digest::of(&whole));
            let (head, (front, back)) = ring.kept();
            let tail = [front, back].concat();
            assert!(head.len() + tail.len() <= keep);
            assert_eq!(head.len() as u64 + ring.omitted() + tail.len() as u64, ring.total());
            assert!(whole.starts_with(head) && whole.ends_with(&tail));
            if whole.len() <= keep {
                assert_eq!(ring.omitted(), 0);
            }
            let (head_span, tail_span) = (ring.head_span(), ring.tail_span());
            for span in [head_span, tail_span] {
                assert_eq!(span.sha256, Digest::of(&whole[span.start as usize..span.end as usize]));
            }
            assert_eq!(tail_span.end, ring.total());
        }
    }
}

#[test]
fn reading_on_and_on_gives_everything_that_is_kept() {
    for seed in 0..400 {
        let mut next = sequence(seed);
        let keep = 2 * (1 + next(40)) as usize;
        let mut ring = OutputRing::new(keep);
        let whole: Vec<u8> = (0..next(5 * keep as u64)).map(|_| next(256) as u8).collect();
        ring.push(&whole);

        let (mut at, mut seen) = (0, 0);
        while let Some((start, bytes)) = ring.read(at, 1 + next(7) as usize) {
            assert!(start >= at && !bytes.is_empty());
            assert_eq!(bytes, whole[start as usize..start as usize + bytes.len()]);
            seen += bytes.len() as u64;
            at = start + bytes.len() as u64;
        }
        assert_eq!(at, ring.total());
        assert_eq!(seen, ring.total() - ring.omitted());
    }
}

#[test]
fn reading_past_the_end_gives_nothing() {
    let mut ring = OutputRing::new(8);
    ring.push(b"abc");
    assert_eq!(ring.read(3, 10), None);
    assert_eq!(ring.read(u64::MAX, 10), None);
    assert_eq!(ring.read(1, 10), Some((1, b"bc".to_vec())));
}
