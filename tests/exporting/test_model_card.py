import json
from pathlib import Path


def test_model_card_has_the_metrics_of_these_weights(dcgan_train, dcgan_evaluate, dcgan_export, trained_run):
    trained_run("max_steps=2")
    last = "checkpoint=run/checkpoints/last.ckpt"
    dcgan_export(last, "out=before")
    assert "Not evaluated: `python -m dcgan.evaluate" in Path("before/README.md").read_text()
    dcgan_evaluate(last)
    dcgan_export(last, "out=after")
    card = Path("after/README.md").read_text()
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    frechet, baseline = content["metrics"]["frechet"], content["floor"]["frechet"]
    assert f"| `frechet` | {frechet:.4g} | {baseline:.4g} | lower |" in card
    assert content["judge"]["sha256"] in card
    assert "trained on\nMNIST for 2 steps (seed 0)" in card
    assert 'load_generator("after")' in card
    assert "64 training images of MNIST (`data=mnist`): 70,000 handwritten digits, 28 x 28 pixels (LeCun" in card
    assert "The license of the weights is not stated." in card
    assert card.startswith("---\nlibrary_name: dcgan\n")
    dcgan_export("checkpoint=after", "out=again", "license=cc-by-4.0", "float16=true")
    again = Path("again/README.md").read_text()
    assert f"| `frechet` | {frechet:.4g} | {baseline:.4g} | lower |" in again
    assert "Measured before the weights were rounded to float16." in again
    assert "license: cc-by-4.0\n---" in again
    Path("after/model.evaluation.json").write_text('{"metrics": []}')
    dcgan_export("checkpoint=after", "out=damaged")
    assert "Not evaluated" in Path("damaged/README.md").read_text()

    dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3")  # other weights
    dcgan_export(last, "out=stale")
    assert "Not evaluated" in Path("stale/README.md").read_text()
