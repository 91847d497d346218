"""The `title` decoder beside references: whole passes over the text, transformers' generate."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from flr_model.config import TitleConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.backbone import Trunk, load_backbone
from flr_model.nn.build import WritingModel, build_model
from flr_model.nn.title_reader import TorchWriter
from flr_model.nn.title_writer import TitleBatch
from flr_model.ranking.candidates import EVERYTHING, UNSEEN, Candidates
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.topk import Best, best_items
from flr_model.titles.latent import expected_vectors, expected_weights
from flr_model.titles.recommender import TitleRecommender
from flr_model.titles.tokens import TitleTokenizer
from flr_model.titles.tree import TitleTree
from tests.builders import TITLES, catalog_of, no_evidence, tiny_model

END = 2
CATALOG = [*TITLES, "red", "red jazz", TITLES[4]]
HISTORIES = [[3, 11, 40, 7], [20, 9], [55]]
NO_LAGS = np.zeros(1, np.int64)


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone):
    return TitleTokenizer(tiny_backbone / "tokenizer.json", title_tokens=16)


@pytest.fixture(scope="module")
def tree(tokenizer):
    return TitleTree.build(tokenizer.encode(CATALOG), np.arange(len(CATALOG)), END)


@pytest.fixture(scope="module")
def build(tiny_backbone, tokenizer, tree):
    """Recommenders with random weights in every part; vectors of items and guidance where they are asked for."""

    def build(*, vectors=True, **changes):
        config = tiny_model(tiny_backbone, decoder="title", encoding="text", dropout=0.0, **changes)
        config = config.with_guidance(config.title.guidance or 0.0)
        torch.manual_seed(0)
        reads, writes = (Trunk(load_backbone(str(tiny_backbone)).lm) for _ in range(2))
        writing_model = WritingModel(writes, None)
        model, head = build_model(config, reads, tokenizer, n_lags=2, writing_model=lambda: writing_model)
        for part in (model, head):
            for name, parameter in part.named_parameters():
                if ".lm." not in name:
                    torch.nn.init.normal_(parameter, std=0.2)
            part.eval().requires_grad_(False)
        head.writer.log_scale.zero_()  # the references scale no logits
        writer = TorchWriter(model, head.decoder, head.writer, None, tokenizer)
        of_items = np.random.default_rng(0).normal(size=(len(CATALOG), 16)).astype(np.float32) * vectors
        evidence = no_evidence(len(CATALOG), config.chosen_factors)
        return TitleRecommender(writer, catalog_of(CATALOG), of_items, evidence, tree, config)

    return build


@pytest.fixture(scope="module")
def generator(tiny_backbone):
    return LlamaForCausalLM.from_pretrained(tiny_backbone).eval()


def prompt_tokens(tokenizer, config, history):
    before, after = config.title.prompt.split("{history}")
    text = before + "".join(f"{CATALOG[item]}\n" for item in history) + after
    pieces = [before, *(part for item in history for part in (CATALOG[item], "\n")), after]
    tokens = [token for piece in pieces for token in tokenizer.encode([piece])[0].tolist()]
    assert text == "".join(pieces)
    return torch.tensor([tokens]), len(tokenizer.encode([before])[0]), len(tokenizer.encode([after])[0])


def batch_of(recommender, histories):
    rows, reader = HistoryRows.from_lists(histories), recommender.reader
    padded = PaddedHistories.of(rows, recommender.max_history, NO_LAGS)
    return reader.batch(padded, reader.table(recommender.vectors, CATALOG))


def expected_of(recommender, histories, candidates=EVERYTHING):
    """(B, D) of histories: the vectors that titles are written after."""
    rows = HistoryRows.from_lists(histories)
    mixture = recommender.guide.mixture(rows, recommender.states(rows))
    return torch.from_numpy(expected_vectors(recommender.expected(mixture, rows, candidates), recommender.vectors))


def test_a_title_is_as_likely_as_one_whole_pass_over_the_text_says(build, tokenizer, tree, generator):
    """LatentR3's second pass: the prompt, a latent token and the title; the token spells what the factors expect."""
    recommender = build(title=TitleConfig(title_softmax="vocabulary"))
    writer, history, title = recommender.reader.writer, HISTORIES[0], 17
    scores = torch.from_numpy(recommender.guide.scores(HistoryRows.from_lists([history])))[0].topk(10)
    vector = (2 * scores.values).softmax(-1) @ torch.from_numpy(recommender.vectors)[scores.indices]
    expected = expected_of(recommender, [history])
    torch.testing.assert_close(expected[0], vector)
    tokens, *_ = prompt_tokens(tokenizer, recommender.model, history)
    own = torch.tensor([[*tokenizer.encode([CATALOG[title]])[0], END]])
    embed = generator.get_input_embeddings()
    spelled = F.normalize(vector @ writer.spell.weight.T, dim=-1) * embed.weight.norm(dim=-1).mean()
    whole = torch.cat([embed(tokens), spelled[None, None], embed(own)], dim=1)
    logits = generator(inputs_embeds=whole).logits[0, -own.shape[1] - 1 :]
    titles = TitleBatch.of(tree.choices(tree.title_of[[title]], forced=True))
    likelihood, n_tokens = writer.likelihood(writer.read(batch_of(recommender, [history])), expected[:, None], titles)
    of_title = logits.log_softmax(-1)[torch.arange(own.shape[1]), own[0]].sum()
    torch.testing.assert_close(likelihood[0, 0], of_title, rtol=1e-4, atol=1e-4)
    assert n_tokens.tolist() == [own.shape[1]]


def test_latent_tokens_of_a_user_do_not_see_each_other(build, tree):
    recommender = build()
    writer = recommender.reader.writer
    prompt = writer.read(batch_of(recommender, HISTORIES))
    noise = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(0))
    vectors = expected_of(recommender, HISTORIES)[:, None] + 0.1 * noise
    titles = TitleBatch.of(tree.choices(tree.title_of[[3, 60, 61]]))
    together, _ = writer.likelihood(prompt, vectors, titles)
    for member in range(4):
        alone, _ = writer.likelihood(prompt, vectors[:, member : member + 1], titles)
        torch.testing.assert_close(together[:, member : member + 1], alone)
    assert together.std(dim=1).min() > 1e-3


def exhaustive(recommender, tree, histories=HISTORIES):
    """(B, M) log-likelihoods of all items, by the function that trains."""
    writer, out = recommender.reader.writer, []
    prompt, vectors = writer.read(batch_of(recommender, histories)), expected_of(recommender, histories)[:, None]
    for item in range(len(CATALOG)):
        titles = TitleBatch.of(tree.choices(tree.title_of[[item] * len(histories)]))
        likelihood = writer.likelihood(prompt, vectors, titles)[0][:, 0]
        out.append(likelihood + tree.log_share[item])
    return torch.stack(out, dim=1).numpy()


def test_a_wide_beam_ranks_as_all_likelihoods_do(build, tree):
    recommender = build(title=TitleConfig(beams=len(CATALOG)))
    recommender.reader.writer.log_scale.fill_(0.3)
    found = recommender.recommend(HistoryRows.from_lists(HISTORIES), len(CATALOG), EVERYTHING)
    scores = exhaustive(recommender, tree)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, found.items, axis=1), atol=1e-4)
    for row, line in zip(found.items, scores, strict=True):
        assert sorted(row) == list(range(len(CATALOG)))
        assert (np.diff(line[row]) < 1e-5).all()
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-4)


def generated(recommender, generator, tree, history, width):
    """The titles that transformers' constrained beam search gives, and their scores."""
    reader = recommender.reader
    tokens, *_ = prompt_tokens(reader.tokenizer, recommender.model, history)
    embeddings = generator.get_input_embeddings()(tokens)
    latent = reader.writer.latent_token(expected_of(recommender, [history]))
    embeddings = torch.cat([embeddings, latent[:, None]], dim=1)

    def allowed(_, beginning):
        node = 0
        for token in beginning.tolist():
            _, children = tree.children(np.asarray([node]))
            if token not in tree.token[children]:
                return [END]
            node = int(children[tree.token[children] == token][0])
        options = tree.token[tree.children(np.asarray([node]))[1]].tolist()
        return options or [END]

    out = generator.generate(
        inputs_embeds=embeddings, num_beams=width, num_return_sequences=width, do_sample=False, max_new_tokens=20,
        prefix_allowed_tokens_fn=allowed, renormalize_logits=True, length_penalty=0.0, eos_token_id=END,
        pad_token_id=END, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    titles = [tuple(row[: row.index(END)]) for row in out.sequences.tolist()]
    return titles, out.sequences_scores.numpy()


@pytest.mark.parametrize("width", [2, 5, 10])
@pytest.mark.parametrize("history", HISTORIES)
def test_the_lists_are_those_of_transformers_generate(build, generator, tree, tokenizer, history, width):
    recommender = build(title=TitleConfig(beams=width))
    recommender.tree = dataclasses.replace(tree)  # of titles alone: their items do not share them
    recommender.tree.__dict__["log_share"] = np.zeros(len(CATALOG))
    titles, scores = generated(recommender, generator, tree, history, width)
    found = recommender.recommend(HistoryRows.from_lists([history]), width, EVERYTHING)
    ours = list(dict.fromkeys(tuple(tokenizer.encode([CATALOG[item]])[0].tolist()) for item in found.items[0]))
    assert ours == titles[: len(ours)]
    np.testing.assert_allclose(np.unique(found.scores[0])[::-1], scores[: len(ours)], atol=1e-4)


def test_without_guidance_shares_and_reasons_are_those_of_the_expected_items(build):
    recommender = build(n_factors=3)
    rows = HistoryRows.from_lists(HISTORIES)
    found, guided = recommender.recommend(rows, 5), recommender.guide.recommend(rows, 10)
    weights = np.exp(2 * guided.scores)
    weights /= weights.sum(axis=1, keepdims=True)
    shares = np.einsum("bn,bnk->bk", weights, guided.shares)
    np.testing.assert_allclose(found.shares, np.repeat(shares[:, None], 5, axis=1), rtol=1e-4)
    assert (found.because == found.because[:, :1]).all()
    for reason, history in zip(found.because[:, 0], HISTORIES, strict=True):
        assert reason in history


def test_the_latent_token_spells_only_items_that_may_be_recommended(build):
    recommender, alone = build(), np.arange(len(CATALOG)) == 8
    of_one = expected_of(recommender, HISTORIES, Candidates(offered=alone))
    torch.testing.assert_close(of_one, torch.from_numpy(recommender.vectors[[8] * 3]))
    nothing = Best.nothing(2, 10)
    assert expected_weights(nothing).tolist() == [[0.0] * 10] * 2


def test_with_guidance_1_the_list_is_the_mixtures_own(build):
    recommender = build(n_factors=3, title=TitleConfig(guidance=1.0, beams=1))
    rows, own = HistoryRows.from_lists(HISTORIES), Candidates(offered=np.arange(len(CATALOG)) % 3 > 0)
    assert recommender.scores_items
    for candidates in (UNSEEN, own):
        found, expected = (one.recommend(rows, 8, candidates) for one in (recommender, recommender.guide))
        for name in vars(expected):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
        best = best_items(recommender.guide.scores(rows, candidates), 8)
        assert found.items.tolist() == best.tolist()
    np.testing.assert_array_equal(recommender.scores(rows), recommender.guide.scores(rows))


@pytest.mark.parametrize("weight", [0.3, 0.9])
def test_a_guided_score_is_both_log_probabilities_weighed(build, tree, weight):
    recommender = build(n_factors=3, title=TitleConfig(guidance=weight, beams=len(CATALOG)))
    found = recommender.recommend(HistoryRows.from_lists(HISTORIES), len(CATALOG), EVERYTHING)
    by_guide = recommender.guide.scores(HistoryRows.from_lists(HISTORIES))
    scores = (1 - weight) * exhaustive(recommender, tree) + weight * by_guide
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, found.items, axis=1), atol=1e-4)
    assert (np.diff(np.take_along_axis(scores, found.items, axis=1)) < 1e-5).all()
    assert np.std(by_guide, axis=1).min() > 0.1


def test_no_beam_is_too_narrow_for_what_the_factors_rank_first(build, tree):
    missed = 0
    histories = np.random.default_rng(0).integers(len(CATALOG), size=(40, 3)).tolist()
    for weight in (0.1, 0.3, 0.5):
        recommender = build(n_factors=3, title=TitleConfig(guidance=weight, beams=1))
        rows = HistoryRows.from_lists(histories)
        scores = (1 - weight) * exhaustive(recommender, tree, histories) + weight * recommender.guide.scores(rows)
        first = recommender.guide.recommend(rows, 1, EVERYTHING).items
        of_first = np.take_along_axis(scores, first, axis=1)
        assert (recommender.recommend(rows, 1, EVERYTHING).scores >= of_first - 1e-4).all()
        recommender._wanted = lambda *_: None
        missed += (recommender.recommend(rows, 1, EVERYTHING).scores < of_first - 1e-3).sum()
    assert missed > 0


def test_shares_and_reasons_go_from_the_expected_items_to_the_item_with_the_guidance(build):
    rows, lists = HistoryRows.from_lists(HISTORIES), {}
    for weight in (0.0, 0.5, 1.0):
        recommender = build(n_factors=3, title=TitleConfig(guidance=weight, beams=len(CATALOG)))
        found = recommender.recommend(rows, len(CATALOG), EVERYTHING)
        by_item = np.argsort(found.items, axis=1)
        lists[weight] = np.take_along_axis(found.shares, by_item[..., None], axis=1)
        np.testing.assert_allclose(found.shares.sum(axis=2), 1, rtol=1e-4)
    np.testing.assert_allclose(lists[0.5], (lists[0.0] + lists[1.0]) / 2, atol=1e-5)
    assert np.abs(lists[0.0] - lists[1.0]).max() > 0.05


def test_no_seen_item_and_no_item_twice(build):
    found = build(title=TitleConfig(beams=3)).recommend(HistoryRows.from_lists(HISTORIES), 30)
    for items, history in zip(found.items.tolist(), HISTORIES, strict=True):
        assert len(set(items)) == 30
        assert not set(items) & {-1, *history}


def test_new_items_can_be_written(build, tokenizer):
    class WithVectors(TorchWriter):
        def encode_titles(self, titles):
            return np.zeros((len(titles), 16), np.float32)

    known = build()
    reader = known.reader
    known = known.with_reader(WithVectors(reader.model, reader.decoder, reader.writer, None, tokenizer))
    wider = known.with_items(["new", "twin"], ["red jazz days", "red"])
    found = wider.recommend(HistoryRows.from_lists([[3], [64]]), len(CATALOG) + 2, EVERYTHING)
    assert sorted(found.items[0]) == list(range(len(CATALOG) + 2))
    place = {item: rank for rank, item in enumerate(found.items[0].tolist())}
    assert place[64] > place[60]  # the same title: the known item first
