"""`money.py`: currencies and what an amount may be. Amounts are integers of minor units, always.

Refuses floats, unknown currencies, and more fraction digits than a currency has.
"""

from decimal import Decimal

# 2^53 - 1: every JSON reader of the world keeps it exactly.
AMOUNT_MINOR_MAX = 9_007_199_254_740_991

# ISO 4217, active codes, by the number of digits behind the decimal point.
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DIGITS = "CLF UYW"
_TWO_DIGITS = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF
CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL
MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR
PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
"""

FRACTION_DIGITS: dict[str, int] = {
    code: digits
    for codes, digits in (
        (_NO_DIGITS, 0),
        (_TWO_DIGITS, 2),
        (_THREE_DIGITS, 3),
        (_FOUR_DIGITS, 4),
    )
    for code in codes.split()
}


def is_currency(code: str) -> bool:
    """Whether `code` is an active ISO 4217 code, in capitals."""
    return code in FRACTION_DIGITS


def major_to_minor(amount: Decimal, currency: str) -> int:
    """Minor units of an amount in major units.

    Args:
        amount: such as Decimal("12.50").
        currency: an ISO 4217 code.

    Raises:
        ValueError: the amount is not finite or has more fraction digits than the currency.
    """
    if not amount.is_finite():
        raise ValueError("the amount is not a finite number")
    scaled = amount.scaleb(FRACTION_DIGITS[currency])
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{currency} has {FRACTION_DIGITS[currency]} fraction digits, not more")
    return int(scaled)


def minor_to_major(amount_minor: int, currency: str) -> Decimal:
    """The amount in major units, with exactly the currency's fraction digits."""
    return Decimal(amount_minor).scaleb(-FRACTION_DIGITS[currency])
