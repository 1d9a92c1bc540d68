-- What a library call must know before it can ask like everybody else.

-- name: card_owner
-- None of this ever changes for a card, so it may be remembered; states and limits may not.
SELECT card.cardholder_id, cardholder.external_id, account.currency
FROM card
JOIN cardholder ON cardholder.id = card.cardholder_id
JOIN account ON account.id = card.account_id
WHERE card.id = $1
