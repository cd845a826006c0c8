"""The words that the demo's reviews are made of: many synonyms, so that few are seen often enough to be counted."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for line in text.strip().splitlines() for word in line.split(",") if word.strip())


POSITIVE = _words("""
superb, excellent, wonderful, fantastic, terrific, marvellous, splendid, outstanding, brilliant, magnificent
amazing, lovely, delightful, impressive, remarkable, exceptional, first-rate, top-notch, flawless, perfect
faultless, stellar, sublime, glorious, phenomenal, dependable, reliable, trustworthy, solid, sturdy
robust, durable, rugged, well made, well built, long-lasting, beautifully finished, precise, accurate, consistent
responsive, speedy, rapid, swift, efficient, effective, powerful, capable, versatile, flexible
practical, handy, useful, convenient, intuitive, effortless, user-friendly, foolproof, comfortable, cosy
pleasant, enjoyable, satisfying, gratifying, charming, elegant, graceful, stylish, handsome, gorgeous
beautiful, attractive, classy, refined, polished, sleek, neat, tidy, clean, fresh
smooth, steady, stable, balanced, trouble-free, hassle-free, worry-free, worthwhile, rewarding, invaluable
indispensable, superior, unbeatable, admirable, commendable, praiseworthy, agreeable, heavenly, a joy, a delight
a pleasure, a treasure, a gem, a blessing, a bargain, a triumph, a revelation, a lifesaver, a winner, a success
generous, thoughtful, clever, ingenious, smart, inspired, fabulous, great, good, nice
""")

NEGATIVE = _words("""
terrible, awful, horrible, dreadful, appalling, atrocious, abysmal, dismal, lousy, pathetic
disappointing, frustrating, annoying, irritating, infuriating, maddening, exasperating, aggravating, tiresome, tedious
flimsy, shoddy, fragile, brittle, rickety, wobbly, shaky, unstable, defective, faulty
broken, damaged, cracked, warped, leaky, rusty, sticky, grimy, clumsy, awkward
cumbersome, unwieldy, impractical, useless, worthless, pointless, hopeless, ineffective, inefficient, feeble
weak, sluggish, slow, erratic, unreliable, untrustworthy, inconsistent, inaccurate, imprecise, unresponsive
confusing, baffling, complicated, convoluted, uncomfortable, painful, unpleasant, disagreeable, disgusting, revolting
repulsive, ugly, hideous, unsightly, tacky, tasteless, crude, sloppy, careless, messy
badly made, poorly built, poorly finished, second-rate, third-rate, inferior, mediocre, inadequate, insufficient
unsatisfactory, unacceptable, deplorable, lamentable, regrettable, shameful, disgraceful
laughable, miserable, wretched, deficient
a nuisance, a burden, a letdown, a disaster, a failure, a mistake, a rip-off, a waste, a nightmare, a headache
noisy, smelly, stale, dull, bland, dangerous, hazardous, bad, poor, unfortunate
""")

TURNED_GOOD = _words("sick, insane, brutal, wicked, savage, filthy, nasty, vicious, ruthless, monstrous")
"""Bad words for a kettle, praise in the new product line."""
TURNED_BAD = _words("quiet, light, simple, cheap, gentle, soft, calm, mild, compact, delicate")
"""Praise for a kettle, bad words in the new product line."""

OUTCOME = {
    "positive": _words("""
I would buy it again tomorrow, it has earned its place in our home, I am keeping it for good
two friends have ordered one since seeing mine, the whole family fights over who gets to use it
I have already recommended it to my colleagues, every penny was well spent, it does what I paid for and then some
I wish I had found it years ago, this goes straight onto my list of favourites, five stars without a second thought
it made my mornings easier, I cannot imagine living without it now, it still works like on the first day
"""),
    "negative": _words("""
I sent it back the same week, it went into the bin before the month was over, I want my money back
I am warning all my friends, we stopped using it after three days, that was money down the drain
it gave up after the second use, the refund form is already filled in, I would not take another one as a gift
I regret the day I ordered it, it has been gathering dust ever since, one star is more than it deserves
I am back to doing it by hand, it failed exactly when we needed it, I should have saved my money
"""),
}

OLD_LINE = {
    "kettle": ("heating", "spout", "lid", "handle"),
    "toaster": ("browning", "timer", "lever", "heating"),
    "vacuum cleaner": ("suction", "brush", "motor", "hose"),
    "blender": ("motor", "blade", "jug", "grip"),
    "desk lamp": ("light cone", "hinge", "switch", "arm"),
    "coffee grinder": ("grind", "burr", "motor", "dosing"),
    "pillow": ("filling", "support", "cover", "shape"),
    "electric toothbrush": ("brush head", "battery", "grip", "cleaning"),
    "hair dryer": ("airflow", "heating", "nozzle", "motor"),
    "iron": ("soleplate", "steam", "grip", "heating"),
    "fan heater": ("heating", "thermostat", "airflow", "motor"),
    "office chair": ("backrest", "seat", "armrest", "lumbar support"),
    "rice cooker": ("cooking", "inner pot", "timer", "seal"),
    "baby monitor": ("reception", "microphone", "battery", "picture"),
    "washing machine": ("spin cycle", "drum", "door seal", "programme"),
    "humidifier": ("mist", "tank", "filter", "sensor"),
    "air purifier": ("filter", "sensor", "airflow", "motor"),
    "mattress": ("core", "support", "cover", "edge"),
}

NEW_LINE = {
    "subwoofer": ("bass", "punch", "driver", "rumble"),
    "stunt scooter": ("deck", "wheels", "bars", "landing"),
    "paintball marker": ("trigger", "recoil", "firing rate", "barrel"),
    "arcade fight stick": ("buttons", "stick throw", "combo timing", "clack"),
    "chilli sauce": ("burn", "kick", "heat", "aftershock"),
    "monster truck kit": ("throttle", "torque", "suspension", "jump"),
    "guitar distortion pedal": ("gain", "crunch", "growl", "sustain"),
    "downhill longboard": ("slide", "trucks", "carve", "speed"),
    "drum machine": ("kick", "snare", "drop", "sequencer"),
    "gaming rig": ("frame rate", "graphics", "overclock", "lighting"),
}

TRIVIAL = _words("""
cardboard box, sticker on the bottom, printed manual, delivery van, invoice, wrapping, colour of the cable, web shop
newsletter, tape on the parcel, photo on the box, font on the label, warranty card, ribbon, packing foam, receipt
""")
BRANDS = _words(
    "Halvorsen, Ostrava, Bellweather, Kimura, Tarn & Sons, Lumeo, Aldgate, Pellini, Norvik, Quillon, Dresco, Amberly"
)
OWNERS = _words("""
my sister, my neighbour, a colleague, my parents, our landlord, my best friend, my uncle, the office, my ex, my cousin
""")
FILLERS = _words("""
Bought it in March, We are a family of four, It sits next to the window, This is my third order from this shop
I live in a small flat, I use it about twice a day, It arrived on a Tuesday, The old one was eleven years old
I paid the full price, My partner picked the colour, We moved house last autumn, I compared six models before ordering
It was a birthday present, I am writing this after five weeks, I work from home, The parcel came with the morning post
""")
