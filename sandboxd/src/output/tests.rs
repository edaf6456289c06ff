use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn keeps_head_and_tail_of_any_output_written_in_any_pieces(
        half in 1_usize..40, pieces in vec(vec(any::<u8>(), 0..240), 0..30),
    ) {
        let keep = 2 * half;
        let mut ring = OutputRing::new(keep);
        let mut whole = Vec::new();
        for piece in pieces {
            ring.push(&piece);
            whole.extend(piece);

            prop_assert_eq!(ring.total(), whole.len() as u64);
            prop_assert_eq!(ring.digest(), Digest::of(&whole));
            let (head, (front, back)) = ring.kept();
            let tail = [front, back].concat();
            prop_assert!(head.len() + tail.len() <= keep);
            prop_assert_eq!(head.len() as u64 + ring.omitted() + tail.len() as u64, ring.total());
            prop_assert!(whole.starts_with(head) && whole.ends_with(&tail));
            if whole.len() <= keep {
                prop_assert_eq!(ring.omitted(), 0);
            }
            let (head_span, tail_span) = (ring.head_span(), ring.tail_span());
            prop_assert_eq!(tail_span.end, ring.total());
            for span in [head_span, tail_span] {
                prop_assert_eq!(span.sha256, Digest::of(&whole[span.start as usize..span.end as usize]));
            }
        }
    }

    #[test]
    fn reading_on_and_on_gives_everything_that_is_kept(
        half in 1_usize..40, whole in vec(any::<u8>(), 0..400), most in vec(1_usize..8, 1..9),
    ) {
        let mut ring = OutputRing::new(2 * half);
        ring.push(&whole);
        let (mut at, mut seen) = (0, 0);
        let mut most = most.into_iter().cycle();
        while let Some((start, bytes)) = ring.read(at, most.next().unwrap()) {
            prop_assert!(start >= at && !bytes.is_empty());
            prop_assert_eq!(&bytes, &whole[start as usize..start as usize + bytes.len()]);
            seen += bytes.len() as u64;
            at = start + bytes.len() as u64;
        }
        prop_assert_eq!(at, ring.total());
        prop_assert_eq!(seen, ring.total() - ring.omitted());
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
