#!/bin/sh
# The ten figures of README.md, from the bundled model: sh examples/figures/make.sh [BACKFLOW [FOLDER]]
# Run from the checkout. Records are made in a temporary folder; FOLDER is where this file stands.
set -eu
case ${1:-build/backflow} in /*) B=$1 ;; *) B=$PWD/${1:-build/backflow} ;; esac
case ${2:-examples/figures} in /*) to=$2 ;; *) to=$PWD/${2:-examples/figures} ;; esac
BACKFLOW_MODELS=${BACKFLOW_MODELS:-$PWD/examples/models}
export BACKFLOW_MODELS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# One verse with everything recorded, and eight passages for what needs many.
"$B" trace kjv-1m --quiet --scores grad_norm,grad_x_act,own,share,edge --losses 0: -o light.safetensors \
    --text "And God said, Let there be light: and there was light. And God saw the light, that it was good."
"$B" trace kjv-1m --quiet -o verse.safetensors \
    --text "And God said, Let there be light: and there was light. And God saw the light, that it was good."
n=0
while IFS= read -r text; do
    n=$((n + 1))
    "$B" trace kjv-1m --quiet --scores grad_norm,own --text "$text" -o "text$n.safetensors"
done <<'TEXTS'
In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters.
The LORD is my shepherd; I shall not want. He maketh me to lie down in green pastures: he leadeth me beside the still waters. He restoreth my soul: he leadeth me in the paths of righteousness for his name's sake.
To every thing there is a season, and a time to every purpose under the heaven: A time to be born, and a time to die; a time to plant, and a time to pluck up that which is planted.
Then Peter opened his mouth, and said, Of a truth I perceive that God is no respecter of persons: But in every nation he that feareth him, and worketh righteousness, is accepted with him.
And it came to pass in those days, that there went out a decree from Caesar Augustus, that all the world should be taxed. And all went to be taxed, every one into his own city.
Now faith is the substance of things hoped for, the evidence of things not seen. For by it the elders obtained a good report. Through faith we understand that the worlds were framed by the word of God.
And Moses said unto the people, Fear ye not, stand still, and see the salvation of the LORD, which he will shew to you to day: for the Egyptians whom ye have seen to day, ye shall see them again no more for ever.
A soft answer turneth away wrath: but grievous words stir up anger. The tongue of the wise useth knowledge aright: but the mouth of fools poureth out foolishness.
TEXTS

draw() { # figure, command...
    out=$1
    shift
    "$B" "$@" -o "$out" >/dev/null
    mv "$out" "$to/"
}
draw 01_sentence.svg figure strip light.safetensors --loss 23 --columns 2
draw 02_map.svg heatmap light.safetensors --site resid_pre --scale log --columns 2
draw 03_signed.svg heatmap light.safetensors --site resid_pre --score grad_x_act --scale log --columns 2
draw 04_layers.png heatmap light.safetensors --site resid_mid --layers all --scale log --columns 2 --dpi 200
draw 05_heads.png heatmap light.safetensors --site z --layers all --heads all --scale log --columns 2 --dpi 200
draw 06_shares.png heatmap light.safetensors --site share.mlp --layers all --columns 2 --dpi 200
draw 07_distance.svg profile text*.safetensors --parts lag,reach --columns 2
draw 08_own_future.svg profile text*.safetensors --parts position,layer --columns 2
draw 09_paths.svg graph light.safetensors --loss 23
draw 10_trust.png trust verse.safetensors kjv-1m --pairs 400 --quiet --sites resid_pre,z
